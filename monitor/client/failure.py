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
  `gateways.loose`.
- `message` falls back to the first of `details`, to the first text of an object of lists (Django REST), and at last to
  the HTTP reason phrase; a redirect says where it leads instead.
- `request_id` falls back to the header `x-request-id`; the header `x-should-retry: false` counts as `retryable: false`.
- `details` are the entries of `detail` when that is a list: at most 20, `loc` as dotted text, never the `input`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial

from monitor.client.bodies import at, decode, text_of
from monitor.client.gateways import gateway_headers, prose, reason, redirect
from monitor.client.hints import retry_hint
from monitor.exchange import ApiError, Detail, Reply, WireFault, plain_text

__all__ = ["PLACES", "fault_error", "read_failure"]

PLACES: Mapping[str, tuple[str, ...]] = {
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

_NAME_CHARS = 200
_MESSAGE_CHARS = 500
_ERROR_CHARS = 400
"""It is stored together with the message, in a column of 1000."""

_MOST_DETAILS = 20
_Text = Callable[[object, int], str | None]
"""`text_of`, with what hides secrets from it."""

_WORD = re.compile(r"(?:[\w.]+#)?([A-Za-z]+(?:[_-][A-Za-z]+)*)", re.ASCII)


def read_failure(
    reply: Reply, *, from_token_endpoint: bool = False, now: datetime | None = None, hide: Callable[[str], str] = str
) -> ApiError:
    """Normalises a reply that is not a success.

    Args:
        reply: any status, any bytes.
        from_token_endpoint: it answered a token request.
        now: our clock, aware; without it no hint is read.
        hide: takes secrets out of a text; of each one that is kept, before it is cut. It may cut and escape, too, so
            that it must not touch the body before the body is read.

    Returns:
        The error; its texts are printable and free of markup: names at most 200 characters long, messages 500, `error`
        400. Never raises.
    """
    body, is_json = decode(reply.body)
    text: _Text = partial(text_of, hide=hide)
    details = _details(at(body, "detail"), text)
    return ApiError(
        status=reply.status,
        code=_code(body, reply.status, text),
        error=_first(body, "error", text, _ERROR_CHARS),
        type=_first(body, "type", text),
        message=redirect(reply, hide) or _message(body, details, text) or reason(reply, hide),
        field=_first(body, "field", text),
        request_id=_first(body, "request_id", text) or text(reply.headers.get("x-request-id"), _NAME_CHARS),
        trace_id=_first(body, "trace_id", text),
        details=details,
        fault=_first(body, "fault", text),
        retryable=_retryable(reply.headers, body),
        retry_after=_hint(reply, body, now),
        from_token_endpoint=from_token_endpoint,
        gateway=() if is_json or reply.status < 500 else gateway_headers(reply.headers, hide),
    )


def fault_error(fault: WireFault, *, from_token_endpoint: bool = False) -> ApiError:
    """Normalises an attempt that brought no usable HTTP answer; the message is the wire's own words."""
    return ApiError(
        status=None,
        network=fault.fault,
        message=plain_text(fault.text, _MESSAGE_CHARS) or f"no usable answer ({fault.fault})",
        from_token_endpoint=from_token_endpoint,
    )


def _texts(body: object, field: str, text: _Text, limit: int) -> Iterator[str]:
    return (said for path in PLACES[field] if (said := text(at(body, path), limit)))


def _first(body: object, field: str, text: _Text, limit: int = _NAME_CHARS) -> str | None:
    return next(_texts(body, field, text, limit), None)


def _code(body: object, status: int, text: _Text) -> str | None:
    codes = list(_texts(body, "code", text, _NAME_CHARS))
    words = map(_WORD.fullmatch, _texts(body, "code, one word", text, _NAME_CHARS))
    telling = (*(code for code in codes if code != str(status)), *(word[1] for word in words if word), *codes)
    return next(iter(telling), None)


def _message(body: Mapping[str, object], details: tuple[Detail, ...], text: _Text) -> str | None:
    return _first(body, "message", text, _MESSAGE_CHARS) or _of_details(details) or _of_lists(body, text)


def _of_details(details: tuple[Detail, ...]) -> str | None:
    return next(
        (prose(f"{each.loc}: {each.msg}".removeprefix(": "), _MESSAGE_CHARS) for each in details if each.msg), None
    )


def _of_lists(body: object, text: _Text) -> str | None:
    """The first text of an object whose members are all lists: Django REST's way to refuse fields, and Rails'."""
    lists = at(body, "errors") or body
    if not isinstance(lists, dict) or len(lists) > _MOST_DETAILS:
        return None
    if not all(isinstance(each, list) for each in lists.values()):
        return None
    first = ((text(name, _MESSAGE_CHARS) or "", text(at(texts, "0"), _MESSAGE_CHARS)) for name, texts in lists.items())
    return next((prose(f"{name}: {said}", _MESSAGE_CHARS) for name, said in first if said), None)


def _details(detail: object, text: _Text) -> tuple[Detail, ...]:
    return tuple(_detail(entry, text) for entry in detail[:_MOST_DETAILS]) if isinstance(detail, list) else ()


def _detail(entry: object, text: _Text) -> Detail:
    if not isinstance(entry, dict):
        return Detail(loc="", msg=text(entry, _MESSAGE_CHARS) or "")
    loc = entry.get("loc")
    parts = loc[:_MOST_DETAILS] if isinstance(loc, list) else [loc]
    dotted = ".".join(said for part in parts if (said := text(part, _NAME_CHARS)))
    return Detail(loc=dotted[:_NAME_CHARS], msg=text(entry.get("msg"), _MESSAGE_CHARS) or "")


def _retryable(headers: Mapping[str, str], body: object) -> bool | None:
    if headers.get("x-should-retry", "").strip().lower() == "false":
        return False
    return next((flag for path in PLACES["retryable"] if isinstance(flag := at(body, path), bool)), None)


def _hint(reply: Reply, body: object, now: datetime | None) -> timedelta | None:
    if now is None:
        return None
    said = next((value for path in PLACES["retry_after"] if (value := at(body, path)) is not None), None)
    return retry_hint(reply.headers, said, now=now, status=reply.status)
