"""What a reply says when no API speaks: redirects, HTML of gateways, XML errors, plain text, the bare status. Pure.

Whatever comes out is prose on one line: printable, bounded, and never markup.
"""

import html
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from monitor.exchange import Reply, plain_text

__all__ = ["gateway_headers", "loose", "prose", "reason", "redirect"]

_GATEWAY_HEADERS = ("server", "via", "x-request-id")
"""What is kept of a gateway's own 5xx, for the log."""

_NAME_CHARS = 200
_MESSAGE_CHARS = 500
_HEAD_CHARS = 16_384
"""What is looked at of a text: a page's title stands at its beginning."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_HOST = re.compile(r"[\w.:-]+")
_MARKUP = re.compile(r"<[a-zA-Z!/?]")
_DOCUMENT = re.compile(r"<(?:!doctype|html|head|body|title|\?xml)\b", re.IGNORECASE)
_BLANKS = str.maketrans("\t\n\r", "   ")
_TAG = re.compile(r"<([a-zA-Z!/?][^<>]*)>?")
_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,1000}?)</title", re.IGNORECASE | re.DOTALL)
_ELEMENT = re.compile(r"<(Code|Message|RequestI[dD]|faultcode|faultstring)>([^<>]{1,2000})</\1>")
_ELEMENTS = {"faultcode": "code", "faultstring": "message", "requestid": "request_id"}


def loose(text: str) -> Mapping[str, object]:
    """What a body outside JSON says, by the names that JSON would have for it.

    Args:
        text: the body, decoded.

    Returns:
        Of plain text the `message`; of HTML its title as `message`; of XML errors as Amazon, Azure and SOAP send them
        `code`, `message` and `request_id`. Empty when nothing is said: binary, or JSON that was cut short.
    """
    head = text[:_HEAD_CHARS]
    if _MARKUP.search(head):
        names = ((name.lower(), html.unescape(content)) for name, content in _ELEMENT.findall(head))
        found = {_ELEMENTS.get(name, name): content for name, content in names}
        return found if "message" in found else {"message": _title(head)}
    if "\ufffd" in head or head.lstrip().startswith(("{", "[", '"')):
        return {}
    return {"message": head}


def prose(text: str, limit: int, hide: Callable[[str], str] = str) -> str:
    """The text on one line, at most `limit` characters, with nothing in it that a browser takes for markup.

    A whole page inside a text counts for its title; of a lone tag (`<name>`, as messages write placeholders) only the
    brackets go. May be empty. It is stable: prose stays as it is. `hide` takes secrets out before anything is cut: the
    first half of one would not be found.
    """
    if hide is not str:
        text = hide(text.translate(_BLANKS))  # it may spell control characters out
    if "<" not in text:
        return plain_text(text, limit)
    head = text[:_HEAD_CHARS]
    return plain_text(_title(head) if _DOCUMENT.search(head) else _TAG.sub(r" \1 ", head), limit)


def _title(head: str) -> str:
    title = _TITLE.search(head)
    return re.sub(r"[<>]", " ", html.unescape(title[1])) if title else ""


def redirect(reply: Reply, hide: Callable[[str], str] = str) -> str | None:
    """Where a redirect leads, by its host alone: the rest may hold secrets. None for any other reply."""
    location = reply.headers.get("location")
    if not (300 <= reply.status < 400 and location):
        return None
    try:
        where = urlsplit(location)
        # the host name comes in lower case, where no secret is found
        spelled = where.netloc.rpartition("@")[2]
        host = (where.hostname or "") if hide(spelled) == spelled else "?"
    except ValueError:
        host = "?"
    if host and not _HOST.fullmatch(host):
        return "redirected to an address that can't be read; redirects are never followed"
    to = f"to host {plain_text(host, _NAME_CHARS)}" if host else "to another path of the same host"
    return f"redirected {to}; redirects are never followed"


def reason(reply: Reply, hide: Callable[[str], str] = str) -> str:
    """The reason phrase that came with the status, or the registered one, or the bare number. Never empty."""
    return prose(reply.reason, _MESSAGE_CHARS, hide) or _PHRASES.get(reply.status) or f"HTTP {reply.status}"


def gateway_headers(headers: Mapping[str, str], hide: Callable[[str], str] = str) -> tuple[tuple[str, str], ...]:
    """`server`, `via` and `x-request-id`, as far as they say something, at most 200 characters each."""
    said = ((name, prose(headers.get(name, ""), _NAME_CHARS, hide)) for name in _GATEWAY_HEADERS)
    return tuple((name, text) for name, text in said if text)
