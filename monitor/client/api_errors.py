"""Normalises any failed reply, whatever its body, into one `ApiError`. Pure; it never raises and decides nothing.

All texts are bounded, printable and free of markup, so that no log, terminal or database rejects them. `FIELD_PATHS`
says where each field is read, `docs/client.md` from which APIs.

- A place counts if it has text or a whole number, for `retryable` a boolean. `0` is the first element of a list.
- A `code` that only repeats the HTTP status counts if there is no other. A one-word code must be one word.
- A body that is a list counts as its first object, with the list as `errors`. `parse_non_json` reads other bodies.
- `message` falls back to the first of `details`, to the first text of an object of lists (Django REST), and to the HTTP
  reason phrase; for a redirect it says where that leads.
- `code` falls back to the header `x-amzn-errortype`, `request_id` to `x-request-id` and `x-amzn-requestid`. The header
  `x-should-retry: false` counts as `retryable: false`.
- `page` is the title of a body in HTML or plain text. The API's own errors are JSON or the XML of clouds, so a gateway
  sent it; `gateway_page` has the rule.
- `details` are the entries of `detail` if that is a list: at most 20, `loc` as dotted text, never the `input`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

from monitor.client.pages import DOCUMENT, MARKUP, MAX_PARSED_CHARS, gateway_page, page_title, xml_fields
from monitor.client.retry_after import parse_retry_after
from monitor.model.http import ApiError, ErrorDetail, Reply, TransportFault, is_cached, plain_text

_GATEWAY_HEADERS = ("server", "via", "x-request-id")
"""Kept from a gateway's own page, for the log."""

_MAX_GATEWAY_NAME_CHARS = 200
_MAX_GATEWAY_MESSAGE_CHARS = 500
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_HOST = re.compile(r"[\w.:-]+")
_LINE_BREAKS = str.maketrans("\t\n\r", "   ")
_TAG = re.compile(r"<([a-zA-Z!/?][^<>]*)>?")


def parse_non_json(text: str) -> Mapping[str, object]:
    """The fields of a body that is not JSON, by their JSON names.

    Plain text gives `message`; HTML its title or first heading as `message`; XML errors of Amazon, Azure and SOAP
    `code`, `message` and `request_id`. Empty for binary, and for JSON that was cut short.
    """
    head = text[:MAX_PARSED_CHARS]
    if MARKUP.search(head):
        found = xml_fields(head)
        return found if "message" in found else {"message": page_title(head)}
    if "\ufffd" in head or head.lstrip().startswith(("{", "[", '"')):
        return {}
    return {"message": head}


def sanitize_text(text: str, limit: int, redact: Callable[[str], str] = str) -> str:
    """The text on one line, at most `limit` characters, without anything that a browser takes for markup; may be empty.

    A whole page counts as its title; a single tag (`<name>`, a placeholder in a message) loses only its brackets.
    `redact` removes secrets before the text is cut: it would not find the first half of one.
    """
    if redact is not str:
        text = redact(text.translate(_LINE_BREAKS))  # it may escape control characters
    if "<" not in text:
        return plain_text(text, limit)
    head = text[:MAX_PARSED_CHARS]
    return plain_text(page_title(head) if DOCUMENT.search(head) else _TAG.sub(r" \1 ", head), limit)


def redirect_message(reply: Reply, redact: Callable[[str], str] = str) -> str | None:
    """The host that a redirect leads to (the rest may hold secrets); None for any other reply."""
    location = reply.headers.get("location")
    if not (300 <= reply.status < 400 and location):
        return None
    try:
        where = urlsplit(location)
        # `hostname` is in lower case, where redaction would miss a secret
        raw_host = where.netloc.rpartition("@")[2]
        host = (where.hostname or "") if redact(raw_host) == raw_host else "?"
    except ValueError:
        host = "?"
    if host and not _HOST.fullmatch(host):
        return "redirected to an unreadable address; redirects are never followed"
    to = f"to host {plain_text(host, _MAX_NAME_CHARS)}" if host else "to another path of the same host"
    return f"redirected {to}; redirects are never followed"


def reason_phrase(reply: Reply, redact: Callable[[str], str] = str) -> str:
    """The reason phrase of the reply, or the registered one, or the bare number. Never empty."""
    return (
        sanitize_text(reply.reason, _MAX_GATEWAY_MESSAGE_CHARS, redact)
        or _PHRASES.get(reply.status)
        or f"HTTP {reply.status}"
    )


def gateway_headers(headers: Mapping[str, str], redact: Callable[[str], str] = str) -> tuple[tuple[str, str], ...]:
    """`server`, `via` and `x-request-id`, without empty ones, at most 200 characters each."""
    found = ((name, sanitize_text(headers.get(name, ""), _MAX_GATEWAY_NAME_CHARS, redact)) for name in _GATEWAY_HEADERS)
    return tuple((name, text) for name, text in found if text)


_INTEGER_LIMIT = 10**20
"""Larger integers do not count as text."""


def decode_body(body: bytes) -> tuple[Mapping[str, object], bool]:
    """The body as an object, and whether it was JSON. Secrets are still in it: `to_text` removes them."""
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
    except ValueError:  # an integer with more digits than Python converts
        return json.loads(text, parse_int=_clamped_float)


def _clamped_float(digits: str) -> float:
    # never infinite
    return max(-sys.float_info.max, min(float(digits), sys.float_info.max))


def value_at(value: object, path: str) -> object:
    """The value at a dotted path, where `0` is the first element of a list; None if there is none."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step == "0":
            value = next(iter(value), None)
        else:
            return None
    return value


def to_text(value: object, limit: int, redact: Callable[[str], str] = str) -> str | None:
    """A text on one line, or a whole number, as redacted text of at most `limit` characters; else None."""
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
"""For each field: the first of these places that counts wins."""

_MAX_NAME_CHARS = 200
_MAX_MESSAGE_CHARS = 500
_MAX_ERROR_CHARS = 400
"""It is stored together with the message, in a column of 1000."""

_MAX_DETAILS = 20
_ToText = Callable[[object, int], str | None]
_WORD = re.compile(r"(?:[\w.]+#)?([A-Za-z]+(?:[_-][A-Za-z]+)*)", re.ASCII)


def parse_api_error(
    reply: Reply,
    *,
    from_token_endpoint: bool = False,
    now: datetime | None = None,
    redact: Callable[[str], str] = str,
    text_errors: bool = False,
) -> ApiError:
    """Normalises a reply that is not a success; never raises. `retry_after` is read only if `now` (aware) is given.

    Texts are printable and free of markup: names at most 200 characters, messages 500, `error` 400. With `text_errors`
    no body is taken for a gateway's page.
    """
    body, is_json = decode_body(reply.body)
    text: _ToText = partial(to_text, redact=redact)
    page = None if text_errors or 300 <= reply.status < 400 else gateway_page(reply)
    details = _details(value_at(body, "detail"), text)
    return ApiError(
        status=reply.status,
        code=_code(body, reply.status, text) or _code_in_header(reply.headers, text),
        error=_first(body, "error", text, _MAX_ERROR_CHARS),
        type=_first(body, "type", text),
        message=redirect_message(reply, redact) or _message(body, details, text) or reason_phrase(reply, redact),
        field=_first(body, "field", text),
        request_id=_first(body, "request_id", text) or _request_id(reply.headers, text),
        trace_id=_first(body, "trace_id", text),
        details=details,
        fault=_first(body, "fault", text),
        retryable=_retryable(reply.headers, body),
        retry_after=_parse_hint(reply, body, now),
        from_token_endpoint=from_token_endpoint,
        gateway=gateway_headers(reply.headers, redact) if _is_gateways(reply, page, is_json=is_json) else (),
        page=None if page is None else sanitize_text(page, _MAX_NAME_CHARS, redact),
        cached=is_cached(reply.headers),
    )


def _is_gateways(reply: Reply, page: str | None, *, is_json: bool) -> bool:
    """Whether its headers are kept: of any page, and of a 5xx that is not JSON."""
    return page is not None or (reply.status >= 500 and not is_json)


_UNUSABLE_MESSAGES = (
    *("detail.message", "error.message", "message", "detail", "error_description", "error"),
    *("errors.0.detail", "errors.0.message", "errors.0.title", "error.0.message", "detail.error", "msg"),
)
"""Where the body of a 2xx says what is wrong. Other places of `FIELD_PATHS` may be a document's own title or type."""


def parse_unusable(reply: Reply, reason: str, *, redact: Callable[[str], str] = str) -> ApiError:
    """A 2xx whose body can't be used, for a `reason` in our own words, with what the API says of it; never raises.

    Some APIs report errors with status 200 and a code in the body.
    """
    body, _ = decode_body(reply.body)
    text: _ToText = partial(to_text, redact=redact)
    page = gateway_page(reply)
    code = next((found for found in _texts(body, "code", text, _MAX_NAME_CHARS) if found not in _NO_ERROR_CODES), None)
    said = next((found for path in _UNUSABLE_MESSAGES if (found := text(value_at(body, path), _MAX_MESSAGE_CHARS))), "")
    said = sanitize_text(page, _MAX_NAME_CHARS, redact) if page is not None else said
    return ApiError(
        status=reply.status,
        code=code,
        message=f"{reason}: {said}"[:_MAX_MESSAGE_CHARS] if said else reason,
        request_id=_first(body, "request_id", text) or _request_id(reply.headers, text),
        trace_id=_first(body, "trace_id", text),
        gateway=() if page is None else gateway_headers(reply.headers, redact),
        page=None if page is None else said,
        cached=is_cached(reply.headers),
    )


_NO_ERROR_CODES = frozenset({"0", "200"})


def transport_api_error(fault: TransportFault, *, from_token_endpoint: bool = False) -> ApiError:
    """Normalises an attempt without a usable HTTP answer; the message is the transport's text."""
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


def _code_in_header(headers: Mapping[str, str], text: _ToText) -> str | None:
    """AWS's REST APIs name the error in a header, as in `AccessDeniedException:http://internal.amazon.com/…`."""
    word = _WORD.fullmatch(text(headers.get("x-amzn-errortype", "").partition(":")[0], _MAX_NAME_CHARS) or "")
    return word[1] if word else None


def _request_id(headers: Mapping[str, str], text: _ToText) -> str | None:
    found = headers.get("x-request-id") or headers.get("x-amzn-requestid")
    return text(found, _MAX_NAME_CHARS)


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
    """The first text of an object of lists, as Django REST and Rails report invalid fields."""
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
