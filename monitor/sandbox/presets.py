"""Faults by name, as the command line and scenarios write them: `503:share=0.3`, `html502:path=/engine,count=5`.

The grammar is NAME[:key=value,…]. A name is a status or one of `PRESETS`; a value holds no comma.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitor.config.durations import parse_duration
from monitor.sandbox import bodies
from monitor.sandbox.faults import Fault, read_fault

__all__ = ["KEYS", "PRESETS", "Preset", "parse_fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A fault that has a name."""

    about: str
    """What it does, in a few words."""
    fields: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "html502": Preset(
        about="a gateway's own 502, in HTML",
        fields={"status": 502, "body": bodies.BAD_GATEWAY, "headers": {"Server": "nginx", "Via": "1.1 google"}},
    ),
    "spending-limit": Preset(
        about="429 SPENDING_LIMIT_EXCEEDED, which says retryable and is not",
        fields={"status": 429, "body": bodies.SPENDING_LIMIT},
    ),
    "drop": Preset(about="the connection drops before any answer", fields={"close": True}),
    "cut-headers": Preset(about="the connection drops after the headers", fields={"passes": True, "cut_after": 0}),
    "cut-body": Preset(about="the connection drops in the body", fields={"passes": True, "cut_after": 20}),
    "drip": Preset(about="the body comes at 20 bytes per second", fields={"passes": True, "drip": 20.0}),
    "drip-headers": Preset(
        about="headers and body come at 20 bytes per second",
        fields={"passes": True, "drip": 20.0, "drip_headers": True},
    ),
    "slow": Preset(about="a right answer after 2 s", fields={"passes": True, "delay_s": 2.0}),
    "slow-start": Preset(
        about="right answers after 5 s at first, after nothing a minute later",
        fields={"passes": True, "delay_s": 5.0, "for_s": 60.0, "fades": True},
    ),
    "hang": Preset(about="no answer for an hour", fields={"status": 504, "delay_s": 3600.0}),
    "token-storm": Preset(
        about="one call in five finds that every issued token has expired",
        fields={"passes": True, "expires": True, "path": "/engine", "share": 0.2},
    ),
}
"""Besides these, each status from 200 to 599 is a name: it has the body that Gloo's error reference shows for it."""

KEYS: Mapping[str, str] = {
    "path": "path",
    "method": "method",
    "status": "status",
    "count": "count",
    "share": "share",
    "for": "for_s",
    "delay": "delay_s",
    "drip": "drip",
    "cut": "cut_after",
}
"""By key: the field of `Fault`. Besides these, `header.NAME` sets a header."""

_WHOLE = frozenset({"status", "count", "cut_after"})
_PARTS = frozenset({"share", "drip"})
_DURATIONS = frozenset({"for_s", "delay_s"})
_HEADER = "header."


def parse_fault(text: str) -> Fault:
    """Reads a fault by name.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    named, _, rest = text.partition(":")
    fields: dict[str, Any] = {**_named(named.strip())}
    headers = dict(fields.get("headers", {}))
    for pair in rest.split(",") if rest else ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(f"{pair.strip()!r} is no key=value; write a fault as NAME[:key=value,…]")
        if key.startswith(_HEADER):
            headers[key.removeprefix(_HEADER)] = value
        else:
            name = _field(key)
            fields[name] = _value(key, name, value)
    return read_fault({**fields, "headers": headers})


def _named(name: str) -> Mapping[str, Any]:
    if name.isascii() and name.isdecimal() and 200 <= int(name) <= 599:
        status = int(name)
        return {"status": status, "body": bodies.BY_STATUS.get(status)}
    if name in PRESETS:
        return PRESETS[name].fields
    known = f"a status from 200 to 599, {', '.join(PRESETS)}"
    raise ValueError(f"there is no fault named {name!r}{_meant(name, list(PRESETS))}; there are {known}")


def _field(key: str) -> str:
    if key not in KEYS:
        raise ValueError(f"there is no key {key!r}{_meant(key, list(KEYS))}; there are {', '.join(KEYS)}, header.NAME")
    return KEYS[key]


def _meant(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _value(key: str, name: str, text: str) -> object:
    try:
        if name in _WHOLE:
            return int(text)
        if name in _PARTS:
            return float(text)
        return parse_duration(text).total_seconds() if name in _DURATIONS else text
    except ValueError:
        what = 'a duration such as "30s"' if name in _DURATIONS else "a number"
        raise ValueError(f"{key}={text} of a fault wants {what}") from None
