"""Removes secrets from what an API says: some APIs repeat the key that they reject. Pure; secrets are arguments.

A credential is found in every encoding in which it is sent: plain, JSON-escaped, URL-encoded, and base64 at any offset
(as in a Basic header).
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote, quote_plus

from monitor.model.http import ApiError, ErrorDetail

_MASK = "**********"
_MAX_REMEMBERED_CHARS = 200
MIN_MASKED_CHARS = 8
"""A shorter credential would match ordinary words: the key `index` in the status `indexed`."""

_MAX_REMEMBERED = 1000
"""Texts whose masked form `remembering` keeps: an API repeats a few statuses a million times."""


def make_redactor(credential: str, mask: Callable[[str], str]) -> Callable[[str], str]:
    """Removes a credential, if it is long enough, and everything that `mask` knows from a text.

    It is for texts that were read already, on their way to people: a mask inside a body would change what it says.
    """
    if len(credential) < MIN_MASKED_CHARS:
        return mask
    return lambda text: mask(_redact(text, credential))


def remembering(redact: Callable[[str], str]) -> Callable[[str], str]:
    """The same function, with a bounded memory of short texts."""
    known: dict[str, str] = {}

    def redacted(text: str) -> str:
        if (found := known.get(text)) is not None:
            return found
        masked = redact(text)
        if len(known) < _MAX_REMEMBERED and len(text) <= _MAX_REMEMBERED_CHARS:
            known[text] = masked
        return masked

    return redacted


def redact_error(error: ApiError, redact: Callable[[str], str]) -> ApiError:
    """The same error with `redact` applied to every text that came from outside."""

    def redacted(text: str | None) -> str | None:
        return None if text is None else redact(text)

    return replace(
        error,
        code=redacted(error.code),
        error=redacted(error.error),
        type=redacted(error.type),
        message=redacted(error.message),
        field=redacted(error.field),
        request_id=redacted(error.request_id),
        trace_id=redacted(error.trace_id),
        page=redacted(error.page),
        fault=redacted(error.fault),
        details=tuple(ErrorDetail(loc=redact(detail.loc), msg=redact(detail.msg)) for detail in error.details),
        gateway=tuple((name, redact(value)) for name, value in error.gateway),
    )


def _redact(text: str, credential: str) -> str:
    for encoding in _encodings(credential):
        text = text.replace(encoding, _MASK)
    return text


@lru_cache(maxsize=8)
def _encodings(credential: str) -> tuple[str, ...]:
    """Every encoding of a credential, the longest first: one may be part of another."""
    return tuple(sorted({credential, *_encoded_forms(credential)}, key=lambda encoding: (-len(encoding), encoding)))


_UNESCAPED = ("", "/", "!'()*", "/!'()*")
"""What URL encoders leave as it is besides the unreserved characters: Python's, and JavaScript's encodeURIComponent."""
_UNRESERVED = re.compile(r"[-._~]")
"""Some encoders escape these, too."""


def _encoded_forms(credential: str) -> Iterator[str]:
    escaped = json.dumps(credential)[1:-1]
    yield from (escaped, escaped.replace("/", "\\/"), html.escape(credential))
    encoders = (
        *(quote(credential, safe=safe) for safe in _UNESCAPED),
        quote_plus(credential),
        quote_plus(credential, "*"),
    )
    all_escaped = _UNRESERVED.sub(lambda match: f"%{ord(match[0]):02X}", quote(credential, safe=""))
    for encoded in (*encoders, all_escaped):
        yield from (encoded, re.sub("%[0-9A-F]{2}", lambda octet: octet[0].lower(), encoded))
    raw = credential.encode()
    for offset in range(3):
        # only the characters that depend on the credential alone
        first, last = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        for altchars in (b"+/", b"-_"):
            yield base64.b64encode(b"\0" * offset + raw, altchars).decode()[first:last]
