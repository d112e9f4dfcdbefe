"""Reads any failed reply, whatever shape its body has, into one `ApiError`. Pure; it never raises and decides nothing.

Error bodies go through the standard library's lenient decoder: losing a code because a server wrote NaN beside it, or
half an emoji, would cost more than microseconds. What is kept is bounded and printable, so that no log, terminal or
database refuses it later.

| field                       | taken from the first of these that says something                                  |
|-----------------------------|------------------------------------------------------------------------------------|
| `code`                      | `detail.code`, `error.code`, `code`, `error_code`                                  |
| `error`                     | `error`, when it is text                                                           |
| `message`                   | `detail.message`, `error.message`, `message`, `detail` as text,                    |
|                             | `error_description`, a body of plain text, the HTML title, the HTTP reason phrase  |
| `type`, `field`, `fault`, … | the `error` object, the `detail` object, the top level                             |
| `request_id`, `trace_id`    | the top level, the `error` object, the `detail` object, the header `x-request-id`  |
| `details`                   | `detail`, when it is a list: at most 20, `loc` as dotted text, never the `input`   |
"""

import html
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

from monitor.client.hints import retry_hint
from monitor.exchange import ApiError, Detail, Reply, WireFault, plain_text

__all__ = ["fault_error", "read_failure"]

_NAME_CHARS = 200
_MESSAGE_CHARS = 500
_MOST_DETAILS = 20
_LONGEST_INT = 20
_HEAD_CHARS = 16_384
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_MARKUP = re.compile(r"<[a-zA-Z!/?]")
_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,1000}?)</title", re.IGNORECASE | re.DOTALL)
_GATEWAY_HEADERS = ("server", "via", "x-request-id")

_Object = Mapping[str, object]


def read_failure(reply: Reply, *, from_token_endpoint: bool = False, now: datetime | None = None) -> ApiError:
    """Normalises a reply that is not a success.

    Args:
        reply: any status, any bytes.
        from_token_endpoint: it answered a token request.
        now: our clock, aware; without it no hint is read.

    Returns:
        The error; its texts are printable, names at most 200 and messages at most 500 characters long. The header
        `x-should-retry: false` counts as `retryable: false`. Never raises.
    """
    body, is_json = _decode(reply.body)
    top = _object(body)
    error, detail = _object(top.get("error")), _object(top.get("detail"))
    said, named = (error, detail, top), (top, error, detail)
    return ApiError(
        status=reply.status,
        code=_first((detail, "code"), (error, "code"), (top, "code"), (top, "error_code")),
        error=_text(top.get("error"), _MESSAGE_CHARS),
        type=_first(*((part, "type") for part in said)),
        message=_redirect(reply) or _message(body, top, error, detail) or _reason(reply),
        field=_first(*((part, "field") for part in said)),
        request_id=_first(*((part, "request_id") for part in named), (reply.headers, "x-request-id")),
        trace_id=_first(*((part, "trace_id") for part in named)),
        details=_details(top.get("detail")),
        fault=_first(*((part, "fault") for part in said)),
        retryable=_retryable(reply.headers, said),
        retry_after=_hint(reply, named, now),
        from_token_endpoint=from_token_endpoint,
        gateway=() if is_json or reply.status < 500 else _gateway(reply.headers),
    )


def fault_error(fault: WireFault, *, from_token_endpoint: bool = False) -> ApiError:
    """Normalises an attempt that brought no usable HTTP answer; the message is the wire's own words."""
    return ApiError(
        status=None,
        network=fault.fault,
        message=plain_text(fault.text, _MESSAGE_CHARS) or f"no usable answer ({fault.fault})",
        from_token_endpoint=from_token_endpoint,
    )


def _decode(body: bytes) -> tuple[object, bool]:
    """The JSON value, or the body's text; and whether it was JSON."""
    text = body.decode("utf-8-sig", "replace")
    try:
        return json.loads(text, parse_int=_integer), True
    except (ValueError, RecursionError):
        return text, False


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INT else float(digits)


def _object(value: object) -> _Object:
    return value if isinstance(value, dict) else {}


def _text(value: object, limit: int = _NAME_CHARS) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return (plain_text(value, limit) or None) if isinstance(value, str) else None


def _first(*places: tuple[_Object, str], limit: int = _NAME_CHARS) -> str | None:
    return next((text for part, key in places if (text := _text(part.get(key), limit))), None)


def _message(body: object, top: _Object, error: _Object, detail: _Object) -> str | None:
    places = ((detail, "message"), (error, "message"), (top, "message"), (top, "detail"), (top, "error_description"))
    return _first(*places, limit=_MESSAGE_CHARS) or (_loose_text(body) if isinstance(body, str) else None)


def _loose_text(text: str) -> str | None:
    """What a body outside JSON says: its HTML title, or all of it when it is plain text."""
    head = text[:_HEAD_CHARS]
    if _MARKUP.search(head):
        title = _TITLE.search(head)
        return plain_text(re.sub(r"[<>]", " ", html.unescape(title[1])), _MESSAGE_CHARS) or None if title else None
    if "\ufffd" in head or head.lstrip().startswith(("{", "[", '"')):
        return None  # binary, or JSON that was cut short
    return plain_text(head, _MESSAGE_CHARS) or None


def _redirect(reply: Reply) -> str | None:
    location = reply.headers.get("location")
    if not (300 <= reply.status < 400 and location):
        return None
    try:
        host = plain_text(urlsplit(location).hostname or "", _NAME_CHARS)
    except ValueError:
        return "redirected to an address that can't be read; redirects are never followed"
    where = f"to host {host}" if host else "to another path of the same host"
    return f"redirected {where}; redirects are never followed"


def _reason(reply: Reply) -> str:
    said = plain_text(reply.reason, _MESSAGE_CHARS)
    return said or _PHRASES.get(reply.status) or f"HTTP {reply.status}"


def _details(detail: object) -> tuple[Detail, ...]:
    entries = detail[:_MOST_DETAILS] if isinstance(detail, list) else []
    return tuple(_detail(entry) for entry in entries if isinstance(entry, dict | str))


def _detail(entry: _Object | str) -> Detail:
    if isinstance(entry, str):
        return Detail(loc="", msg=plain_text(entry, _MESSAGE_CHARS))
    loc = entry.get("loc")
    parts = loc[:_MOST_DETAILS] if isinstance(loc, list) else [loc]
    dotted = ".".join(text for part in parts if (text := _text(part)))
    return Detail(loc=dotted[:_NAME_CHARS], msg=_text(entry.get("msg"), _MESSAGE_CHARS) or "")


def _retryable(headers: Mapping[str, str], said: Iterable[_Object]) -> bool | None:
    if headers.get("x-should-retry", "").strip().lower() == "false":
        return False
    return next((flag for part in said if isinstance(flag := part.get("retryable"), bool)), None)


def _hint(reply: Reply, named: Iterable[_Object], now: datetime | None) -> timedelta | None:
    if now is None:
        return None
    body_retry_after = next((value for part in named if (value := part.get("retry_after")) is not None), None)
    return retry_hint(reply.headers, body_retry_after, now=now, status=reply.status)


def _gateway(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name in _GATEWAY_HEADERS if (text := _text(headers.get(name))))
