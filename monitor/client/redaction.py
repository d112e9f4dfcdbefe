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

import msgspec

from monitor.model.http import ApiError, ErrorDetail, Reply

_MASK = "**********"
_MIN_ENCODED_CHARS = 8
"""The encodings of a shorter credential would match ordinary words."""

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_REQUEST_ID_HEADER = "x-request-id"
"""The only header of a 2xx whose text is kept."""


def make_redactor(credential: str, mask: Callable[[str], str]) -> Callable[[str], str]:
    """Removes a credential, if given, and everything that `mask` knows from a text."""
    if not credential:
        return mask
    return lambda text: mask(_redact(text, credential))


def redact_credential(reply: Reply, credential: str) -> Reply:
    """The same 2xx with the credential masked in its body and in its request id header."""
    if not credential:
        return reply
    body = reply.body
    if b"\\u" in body and _ESCAPE.search(text := body.decode(errors="replace")):
        plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
        # an API that escapes our credential in this way need not be understood: the JSON may break
        body = body if _redact(plain, credential) == plain else _redact(plain, credential).encode(errors="replace")
    for encoding in _encoded_bytes(credential):
        if encoding in body:
            body = body.replace(encoding, _MASK.encode())
    headers = reply.headers
    if (
        _REQUEST_ID_HEADER in headers
        and (redacted := _redact(headers[_REQUEST_ID_HEADER], credential)) != headers[_REQUEST_ID_HEADER]
    ):
        headers = {**headers, _REQUEST_ID_HEADER: redacted}
    unchanged = body is reply.body and headers is reply.headers
    return reply if unchanged else msgspec.structs.replace(reply, body=body, headers=headers)


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
    found = {credential, *(_encoded_forms(credential) if len(credential) >= _MIN_ENCODED_CHARS else ())}
    return tuple(sorted(found, key=lambda encoding: (-len(encoding), encoding)))


@lru_cache(maxsize=8)
def _encoded_bytes(credential: str) -> tuple[bytes, ...]:
    return tuple(encoding.encode() for encoding in _encodings(credential))


def _encoded_forms(credential: str) -> Iterator[str]:
    escaped = json.dumps(credential)[1:-1]
    yield from (escaped, escaped.replace("/", "\\/"), html.escape(credential))
    for encoded in (quote(credential, safe=""), quote(credential), quote_plus(credential)):
        yield from (encoded, re.sub("%[0-9A-F]{2}", lambda octet: octet[0].lower(), encoded))
    raw = credential.encode()
    for offset in range(3):
        # only the characters that depend on the credential alone
        first, last = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        for altchars in (b"+/", b"-_"):
            yield base64.b64encode(b"\0" * offset + raw, altchars).decode()[first:last]
