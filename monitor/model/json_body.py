"""Decodes a JSON body as APIs really write it: with a byte order mark, or with half an emoji in a title. Pure."""

import re
from typing import TypeVar

import msgspec

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
r"""A pair of surrogates, one alone (the group), any other escape. One alone, such as `\ud83d`, is valid by JSON's
grammar, and JavaScript writes it where a text was cut.
"""

_T = TypeVar("_T")


def decode_json(body: bytes, kind: type[_T] = object) -> _T:  # type: ignore[assignment]  # any JSON value
    """The JSON value, as a `kind`.

    Raises:
        msgspec.ValidationError: it is not of that kind.
        ValueError, RecursionError: the body is not JSON, or nested too deep.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        raise
    except ValueError:
        # rare, so that the usual body is read once
        return msgspec.json.decode(replace_lone_surrogates(body.removeprefix(BYTE_ORDER_MARK)), type=kind)


def replace_lone_surrogates(body: bytes | bytearray) -> bytes | bytearray:
    r"""The same with `\ufffd` for each escape that is half a character."""
    return _ESCAPE.sub(_replace_lone, body)


def _replace_lone(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]
