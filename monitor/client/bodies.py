"""The body of a failed reply as one object, and what lies where in it. Pure; it never raises for any bytes.

It uses the standard library's decoder, which is lenient: losing a code because a server wrote NaN beside it, or half
an emoji, would cost more than microseconds.
"""

import json
import sys
from collections.abc import Callable, Mapping

from monitor.client.gateways import loose, prose

__all__ = ["at", "decode", "text_of"]

_BEYOND_NUMBERS = 10**20
"""Integers from here on say nothing as a text."""


def decode(body: bytes) -> tuple[Mapping[str, object], bool]:
    """What the body says, as an object, and whether it was JSON.

    A list is taken for its first object, with the list as `errors`; anything outside JSON, and a JSON text, is read by
    `gateways.loose`. Secrets are still in it: `text_of` takes them out of each text that is kept.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        value = _json(text)
    except (ValueError, RecursionError):
        return loose(text), False
    if isinstance(value, list):
        first = next(iter(value), None)
        value = {**(first if isinstance(first, dict) else {}), "errors": value}
    elif isinstance(value, str):
        value = loose(value)
    return (value if isinstance(value, dict) else {}), True


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of more digits than Python converts
        return json.loads(text, parse_int=_bounded)


def _bounded(digits: str) -> float:
    # however huge, it is not infinite
    return max(-sys.float_info.max, min(float(digits), sys.float_info.max))


def at(value: object, path: str) -> object:
    """What lies at a dotted path, where `0` is the first element of a list; None when nothing does."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step == "0":
            value = next(iter(value), None)
        else:
            return None
    return value


def text_of(value: object, limit: int, hide: Callable[[str], str] = str) -> str | None:
    """A text as prose of at most `limit` characters, or a whole number; None for what is blank or anything else.

    `hide` takes secrets out of a text before it is cut: the first half of a secret would not be found.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < _BEYOND_NUMBERS else None
    return (prose(value, limit, hide) or None) if isinstance(value, str) else None
