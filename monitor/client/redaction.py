"""Takes secrets out of what an API says: some repeat the key that they reject. Pure; what is secret is an argument.

A credential is found in every coding in which it travels: plain, as JSON escapes it, URL-encoded, and in base64 at any
offset (as in a Basic header).
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
_SHORTEST_CODED = 8
"""Characters: the codings of a shorter credential would be found in ordinary words."""

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_READ = "x-request-id"
"""The only header of a 2xx of which a text is kept."""


def hiding(credential: str, mask: Callable[[str], str]) -> Callable[[str], str]:
    """What takes a credential, if there is one, and everything that `mask` knows out of a text."""
    if not credential:
        return mask
    return lambda text: mask(_hidden(text, credential))


def without_credential(reply: Reply, credential: str) -> Reply:
    """The same 2xx with the credential masked in its body, and in the header that names the request."""
    if not credential:
        return reply
    body = reply.body
    if b"\\u" in body and _ESCAPE.search(text := body.decode(errors="replace")):
        plain = _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)
        # who spells our credential so is no API that has to be understood: the JSON may break
        body = body if _hidden(plain, credential) == plain else _hidden(plain, credential).encode(errors="replace")
    for coding in _coded(credential):
        if coding in body:
            body = body.replace(coding, _MASK.encode())
    headers = reply.headers
    if _READ in headers and (said := _hidden(headers[_READ], credential)) != headers[_READ]:
        headers = {**headers, _READ: said}
    unchanged = body is reply.body and headers is reply.headers
    return reply if unchanged else msgspec.structs.replace(reply, body=body, headers=headers)


def without_secrets(error: ApiError, hide: Callable[[str], str]) -> ApiError:
    """The same error with `hide` applied to every text that came from outside."""

    def hidden(text: str | None) -> str | None:
        return None if text is None else hide(text)

    return replace(
        error,
        code=hidden(error.code),
        error=hidden(error.error),
        type=hidden(error.type),
        message=hidden(error.message),
        field=hidden(error.field),
        request_id=hidden(error.request_id),
        trace_id=hidden(error.trace_id),
        fault=hidden(error.fault),
        details=tuple(ErrorDetail(loc=hide(detail.loc), msg=hide(detail.msg)) for detail in error.details),
        gateway=tuple((name, hide(value)) for name, value in error.gateway),
    )


def _hidden(text: str, credential: str) -> str:
    for coding in _codings(credential):
        text = text.replace(coding, _MASK)
    return text


@lru_cache(maxsize=8)
def _codings(credential: str) -> tuple[str, ...]:
    """All that gives a credential away, the longest first: one may be part of another."""
    found = {credential, *(_in_texts(credential) if len(credential) >= _SHORTEST_CODED else ())}
    return tuple(sorted(found, key=lambda coding: (-len(coding), coding)))


@lru_cache(maxsize=8)
def _coded(credential: str) -> tuple[bytes, ...]:
    return tuple(coding.encode() for coding in _codings(credential))


def _in_texts(credential: str) -> Iterator[str]:
    escaped = json.dumps(credential)[1:-1]
    yield from (escaped, escaped.replace("/", "\\/"), html.escape(credential))
    for coded in (quote(credential, safe=""), quote(credential), quote_plus(credential)):
        yield from (coded, re.sub("%[0-9A-F]{2}", lambda octet: octet[0].lower(), coded))
    raw = credential.encode()
    for offset in range(3):
        # the characters that depend on the credential alone, whatever stands around it
        first, last = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        for altchars in (b"+/", b"-_"):
            yield base64.b64encode(b"\0" * offset + raw, altchars).decode()[first:last]
