"""Reads any failed reply, whatever shape its body has, into one `ApiError`. Pure; it never raises and decides nothing.

What is kept is bounded, printable and free of markup, so that no log, terminal or database refuses it later.

| field            | the first of these places that says something                                             |
|------------------|-------------------------------------------------------------------------------------------|
| `code`           | `detail.code`, `error.code`, `code`, `error_code`, `errors.0.code`,                       |
|                  | `errors.0.extensions.code`, `errorCode`, `fault.detail.errorcode`                         |
| `code`, one word | `error.status`, `error.errors.0.reason`, `__type`, `error`, `reason`                      |
| `error`          | `error`, `title`                                                                          |
| `type`           | `error.type`, `detail.type`, `type`                                                       |
| `message`        | `detail.message`, `error.message`, `message`, `detail`, `error_description`,              |
|                  | `errors.0.detail`, `errors.0.message`, `errors.0.title`, `errors.0`, `errors`,            |
|                  | `error.0.message`, `error.reason`, `detail.error`, `message.0`, `Message`, `errorMessage`,|
|                  | `fault.faultstring`, `title`, `msg`, `reason`, `non_field_errors.0`                       |
| `field`          | `error.field`, `detail.field`, `field`, `error.param`                                     |
| `request_id`     | `request_id`, `error.request_id`, `detail.request_id`, `requestId`                        |
| `trace_id`       | `trace_id`, `error.trace_id`, `detail.trace_id`, `traceId`                                |
| `fault`          | `error.fault`, `detail.fault`, `fault`                                                    |
| `retryable`      | `error.retryable`, `detail.retryable`, `retryable`                                        |
| `retry_after`    | `retry_after`, `error.retry_after`, `detail.retry_after`                                  |

- A place says something when it holds text or a whole number; `retryable` wants a boolean. `0` is the first of a list.
- A `code` that only repeats the HTTP status counts when no other is found. Where one word is a code, sentences are not.
- A body that is a list counts as its first object, with the list as `errors`; one outside JSON is read by
  `gateways.parse_non_json`.
- `message` falls back to the first of `details`, to the first text of an object of lists (Django REST), and at last to
  the HTTP reason phrase; a redirect says where it leads instead.
- `request_id` falls back to the header `x-request-id`; the header `x-should-retry: false` counts as `retryable: false`.
- `details` are the entries of `detail` when that is a list: at most 20, `loc` as dotted text, never the `input`.
"""

import html
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

from monitor.client.retry_after import parse_retry_after
from monitor.model.http import ApiError, ErrorDetail, Reply, TransportFault, plain_text

_GATEWAY_HEADERS = ("server", "via", "x-request-id")
"""What is kept of a gateway's own 5xx, for the log."""

_MAX_GATEWAY_NAME_CHARS = 200
_MAX_GATEWAY_MESSAGE_CHARS = 500
_MAX_PARSED_CHARS = 16_384
"""What is looked at of a text: a page's title stands at its beginning."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_HOST = re.compile(r"[\w.:-]+")
_MARKUP = re.compile(r"<[a-zA-Z!/?]")
_DOCUMENT = re.compile(r"<(?:!doctype|html|head|body|title|\?xml)\b", re.IGNORECASE)
_LINE_BREAKS = str.maketrans("\t\n\r", "   ")
_TAG = re.compile(r"<([a-zA-Z!/?][^<>]*)>?")
_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,1000}?)</title", re.IGNORECASE | re.DOTALL)
_ELEMENT = re.compile(r"<(Code|Message|RequestI[dD]|faultcode|faultstring)>([^<>]{1,2000})</\1>")
_ELEMENTS = {"faultcode": "code", "faultstring": "message", "requestid": "request_id"}


def parse_non_json(text: str) -> Mapping[str, object]:
    """What a body outside JSON says, by the names that JSON would have for it.

    Args:
        text: the body, decoded.

    Returns:
        Of plain text the `message`; of HTML its title as `message`; of XML errors as Amazon, Azure and SOAP send them
        `code`, `message` and `request_id`. Empty when nothing is said: binary, or JSON that was cut short.
    """
    head = text[:_MAX_PARSED_CHARS]
    if _MARKUP.search(head):
        names = ((name.lower(), html.unescape(content)) for name, content in _ELEMENT.findall(head))
        found = {_ELEMENTS.get(name, name): content for name, content in names}
        return found if "message" in found else {"message": _title(head)}
    if "\ufffd" in head or head.lstrip().startswith(("{", "[", '"')):
        return {}
    return {"message": head}


def sanitize_text(text: str, limit: int, redact: Callable[[str], str] = str) -> str:
    """The text on one line, at most `limit` characters, with nothing in it that a browser takes for markup.

    A whole page inside a text counts for its title; of a lone tag (`<name>`, as messages write placeholders) only the
    brackets go. May be empty. It is stable: prose stays as it is. `redact` takes secrets out before anything is cut: the
    first half of one would not be found.
    """
    if redact is not str:
        text = redact(text.translate(_LINE_BREAKS))  # it may spell control characters out
    if "<" not in text:
        return plain_text(text, limit)
    head = text[:_MAX_PARSED_CHARS]
    return plain_text(_title(head) if _DOCUMENT.search(head) else _TAG.sub(r" \1 ", head), limit)


def _title(head: str) -> str:
    title = _TITLE.search(head)
    return re.sub(r"[<>]", " ", html.unescape(title[1])) if title else ""


def redirect_message(reply: Reply, redact: Callable[[str], str] = str) -> str | None:
    """Where a redirect leads, by its host alone: the rest may hold secrets. None for any other reply."""
    location = reply.headers.get("location")
    if not (300 <= reply.status < 400 and location):
        return None
    try:
        where = urlsplit(location)
        # the host name comes in lower case, where no secret is found
        raw_host = where.netloc.rpartition("@")[2]
        host = (where.hostname or "") if redact(raw_host) == raw_host else "?"
    except ValueError:
        host = "?"
    if host and not _HOST.fullmatch(host):
        return "redirected to an address that can't be read; redirects are never followed"
    to = f"to host {plain_text(host, _MAX_NAME_CHARS)}" if host else "to another path of the same host"
    return f"redirected {to}; redirects are never followed"


def reason_phrase(reply: Reply, redact: Callable[[str], str] = str) -> str:
    """The reason phrase that came with the status, or the registered one, or the bare number. Never empty."""
    return (
        sanitize_text(reply.reason, _MAX_GATEWAY_MESSAGE_CHARS, redact)
        or _PHRASES.get(reply.status)
        or f"HTTP {reply.status}"
    )


def gateway_headers(headers: Mapping[str, str], redact: Callable[[str], str] = str) -> tuple[tuple[str, str], ...]:
    """`server`, `via` and `x-request-id`, as far as they say something, at most 200 characters each."""
    found = ((name, sanitize_text(headers.get(name, ""), _MAX_GATEWAY_NAME_CHARS, redact)) for name in _GATEWAY_HEADERS)
    return tuple((name, text) for name, text in found if text)


_INTEGER_LIMIT = 10**20
"""Integers from here on say nothing as a text."""


def decode_body(body: bytes) -> tuple[Mapping[str, object], bool]:
    """What the body says, as an object, and whether it was JSON.

    A list is taken for its first object, with the list as `errors`; anything outside JSON, and a JSON text, is read by
    `gateways.parse_non_json`. Secrets are still in it: `to_text` takes them out of each text that is kept.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        value = _json(text)
    except (ValueError, RecursionError):
        return parse_non_json(text), False
    if isinstance(value, list):
        first = next(iter(value), None)
        value = {**(first if isinstance(first, dict) else {}), "errors": value}
    elif isinstance(value, str):
        value = parse_non_json(value)
    return (value if isinstance(value, dict) else {}), True


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of more digits than Python converts
        return json.loads(text, parse_int=_clamped_float)


def _clamped_float(digits: str) -> float:
    # however huge, it is not infinite
    return max(-sys.float_info.max, min(float(digits), sys.float_info.max))


def value_at(value: object, path: str) -> object:
    """What lies at a dotted path, where `0` is the first element of a list; None when nothing does."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step == "0":
            value = next(iter(value), None)
        else:
            return None
    return value


def to_text(value: object, limit: int, redact: Callable[[str], str] = str) -> str | None:
    """A text as prose of at most `limit` characters, or a whole number; None for what is blank or anything else.

    `redact` takes secrets out of a text before it is cut: the first half of a secret would not be found.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < _INTEGER_LIMIT else None
    return (sanitize_text(value, limit, redact) or None) if isinstance(value, str) else None


FIELD_PATHS: Mapping[str, tuple[str, ...]] = {
    "code": (
        *("detail.code", "error.code", "code", "error_code", "errors.0.code", "errors.0.extensions.code"),
        *("errorCode", "fault.detail.errorcode"),
    ),
    "code, one word": ("error.status", "error.errors.0.reason", "__type", "error", "reason"),
    "error": ("error", "title"),
    "type": ("error.type", "detail.type", "type"),
    "message": (
        *("detail.message", "error.message", "message", "detail", "error_description"),
        *("errors.0.detail", "errors.0.message", "errors.0.title", "errors.0", "errors"),
        *("error.0.message", "error.reason", "detail.error", "message.0", "Message", "errorMessage"),
        *("fault.faultstring", "title", "msg", "reason", "non_field_errors.0"),
    ),
    "field": ("error.field", "detail.field", "field", "error.param"),
    "request_id": ("request_id", "error.request_id", "detail.request_id", "requestId"),
    "trace_id": ("trace_id", "error.trace_id", "detail.trace_id", "traceId"),
    "fault": ("error.fault", "detail.fault", "fault"),
    "retryable": ("error.retryable", "detail.retryable", "retryable"),
    "retry_after": ("retry_after", "error.retry_after", "detail.retry_after"),
}
"""The table above."""

_MAX_NAME_CHARS = 200
_MAX_MESSAGE_CHARS = 500
_MAX_ERROR_CHARS = 400
"""It is stored together with the message, in a column of 1000."""

_MAX_DETAILS = 20
_ToText = Callable[[object, int], str | None]
"""`to_text`, with what hides secrets from it."""

_WORD = re.compile(r"(?:[\w.]+#)?([A-Za-z]+(?:[_-][A-Za-z]+)*)", re.ASCII)


def parse_api_error(
    reply: Reply, *, from_token_endpoint: bool = False, now: datetime | None = None, redact: Callable[[str], str] = str
) -> ApiError:
    """Normalises a reply that is not a success.

    Args:
        reply: any status, any bytes.
        from_token_endpoint: it answered a token request.
        now: our clock, aware; without it no hint is read.
        redact: takes secrets out of a text; of each one that is kept, before it is cut. It may cut and escape, too, so
            that it must not touch the body before the body is read.

    Returns:
        The error; its texts are printable and free of markup: names at most 200 characters long, messages 500, `error`
        400. Never raises.
    """
    body, is_json = decode_body(reply.body)
    text: _ToText = partial(to_text, redact=redact)
    details = _details(value_at(body, "detail"), text)
    return ApiError(
        status=reply.status,
        code=_code(body, reply.status, text),
        error=_first(body, "error", text, _MAX_ERROR_CHARS),
        type=_first(body, "type", text),
        message=redirect_message(reply, redact) or _message(body, details, text) or reason_phrase(reply, redact),
        field=_first(body, "field", text),
        request_id=_first(body, "request_id", text) or text(reply.headers.get("x-request-id"), _MAX_NAME_CHARS),
        trace_id=_first(body, "trace_id", text),
        details=details,
        fault=_first(body, "fault", text),
        retryable=_retryable(reply.headers, body),
        retry_after=_parse_hint(reply, body, now),
        from_token_endpoint=from_token_endpoint,
        gateway=() if is_json or reply.status < 500 else gateway_headers(reply.headers, redact),
    )


def transport_api_error(fault: TransportFault, *, from_token_endpoint: bool = False) -> ApiError:
    """Normalises an attempt that brought no usable HTTP answer; the message is the wire's own words."""
    return ApiError(
        status=None,
        network=fault.fault,
        message=plain_text(fault.text, _MAX_MESSAGE_CHARS) or f"no usable answer ({fault.fault})",
        from_token_endpoint=from_token_endpoint,
    )


def _texts(body: object, field: str, text: _ToText, limit: int) -> Iterator[str]:
    return (found for path in FIELD_PATHS[field] if (found := text(value_at(body, path), limit)))


def _first(body: object, field: str, text: _ToText, limit: int = _MAX_NAME_CHARS) -> str | None:
    return next(_texts(body, field, text, limit), None)


def _code(body: object, status: int, text: _ToText) -> str | None:
    codes = list(_texts(body, "code", text, _MAX_NAME_CHARS))
    words = map(_WORD.fullmatch, _texts(body, "code, one word", text, _MAX_NAME_CHARS))
    candidates = (*(code for code in codes if code != str(status)), *(word[1] for word in words if word), *codes)
    return next(iter(candidates), None)


def _message(body: Mapping[str, object], details: tuple[ErrorDetail, ...], text: _ToText) -> str | None:
    return (
        _first(body, "message", text, _MAX_MESSAGE_CHARS)
        or _message_of_details(details)
        or _message_of_lists(body, text)
    )


def _message_of_details(details: tuple[ErrorDetail, ...]) -> str | None:
    return next(
        (
            sanitize_text(f"{each.loc}: {each.msg}".removeprefix(": "), _MAX_MESSAGE_CHARS)
            for each in details
            if each.msg
        ),
        None,
    )


def _message_of_lists(body: object, text: _ToText) -> str | None:
    """The first text of an object whose members are all lists: Django REST's way to refuse fields, and Rails'."""
    lists = value_at(body, "errors") or body
    if not isinstance(lists, dict) or len(lists) > _MAX_DETAILS:
        return None
    if not all(isinstance(each, list) for each in lists.values()):
        return None
    first = (
        (text(name, _MAX_MESSAGE_CHARS) or "", text(value_at(texts, "0"), _MAX_MESSAGE_CHARS))
        for name, texts in lists.items()
    )
    return next((sanitize_text(f"{name}: {found}", _MAX_MESSAGE_CHARS) for name, found in first if found), None)


def _details(detail: object, text: _ToText) -> tuple[ErrorDetail, ...]:
    return tuple(_detail(entry, text) for entry in detail[:_MAX_DETAILS]) if isinstance(detail, list) else ()


def _detail(entry: object, text: _ToText) -> ErrorDetail:
    if not isinstance(entry, dict):
        return ErrorDetail(loc="", msg=text(entry, _MAX_MESSAGE_CHARS) or "")
    loc = entry.get("loc")
    parts = loc[:_MAX_DETAILS] if isinstance(loc, list) else [loc]
    dotted = ".".join(found for part in parts if (found := text(part, _MAX_NAME_CHARS)))
    return ErrorDetail(loc=dotted[:_MAX_NAME_CHARS], msg=text(entry.get("msg"), _MAX_MESSAGE_CHARS) or "")


def _retryable(headers: Mapping[str, str], body: object) -> bool | None:
    if headers.get("x-should-retry", "").strip().lower() == "false":
        return False
    return next((flag for path in FIELD_PATHS["retryable"] if isinstance(flag := value_at(body, path), bool)), None)


def _parse_hint(reply: Reply, body: object, now: datetime | None) -> timedelta | None:
    if now is None:
        return None
    found = next((value for path in FIELD_PATHS["retry_after"] if (value := value_at(body, path)) is not None), None)
    return parse_retry_after(reply.headers, found, now=now, status=reply.status)
