"""Pages: what answers in HTML or plain text where the API would have sent JSON. Pure.

A gateway, a proxy or a login portal sends them. `gateway_page` has the rule and gives the title. `page_words` says in
our own words what it means, for the log, which never has a text from outside.
"""

import html
import re
from collections.abc import Mapping

from monitor.model.http import Reply
from monitor.model.json_body import decode_json

MAX_PARSED_CHARS = 16_384
"""How much of a text is read: the title of a page is at its beginning."""

MARKUP = re.compile(r"<[a-zA-Z!/?]")
DOCUMENT = re.compile(r"<(?:!doctype|html|head|body|title|\?xml)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,1000}?)</title", re.IGNORECASE | re.DOTALL)
_HEADING = re.compile(r"<h[1-6][^>]{0,200}>(.{0,1000}?)</h[1-6]\s*>([^<]{0,500})", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(script|style)\b.*?(?:</\1|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_SCALAR = re.compile(r"null|true|false|-?\d[\d.eE+-]*")
_ELEMENT = re.compile(r"<(Code|Message|RequestI[dD]|faultcode|faultstring)>([^<>]{1,2000})</\1>")
_ELEMENTS = {"faultcode": "code", "faultstring": "message", "requestid": "request_id"}


def gateway_page(reply: Reply) -> str | None:
    """The title of a body that the API did not write: HTML, or text that is not JSON. Empty if it has no title.

    None for the API's own answers: JSON (also if it was cut short, or has another content type), the XML errors of
    clouds, any text that is declared as JSON, and no body at all. Without a title, HTML gives its first heading and
    what follows it; plain text gives its first line.
    """
    declared = reply.headers.get("content-type", "").lower()
    head = _decoded(reply.body[: 4 * MAX_PARSED_CHARS], declared)[:MAX_PARSED_CHARS].strip()
    markup = MARKUP.match(head) is not None
    if not head or _is_json_like(head, reply.body, declared) or ("json" in declared and not markup):
        return None
    if _SCALAR.fullmatch(head) and not declared.startswith("text/"):
        return None
    if not MARKUP.search(head):
        return "" if "\ufffd" in head else head.splitlines()[0]
    return None if "message" in xml_fields(head) else page_title(head)


def _is_json_like(head: str, body: bytes, declared: str) -> bool:
    """Whether a text begins as JSON does. What is declared as text must be a whole object or list: `[403] Forbidden`
    and `"not found"` are a gateway's words.
    """
    if not head.startswith(("{", "[", '"')):
        return False
    if not declared.startswith("text/"):
        return True
    try:
        return isinstance(decode_json(body), dict | list)
    except (ValueError, RecursionError):
        return False


def _decoded(body: bytes, content_type: str) -> str:
    charset = _CHARSET.search(content_type)
    try:
        return body.decode(charset[1] if charset else "utf-8-sig", "replace")
    except LookupError:
        return body.decode("utf-8-sig", "replace")


def xml_fields(head: str) -> Mapping[str, str]:
    """The fields of an XML error of Amazon, Azure or SOAP, by their JSON names; empty for any other markup."""
    names = ((name.lower(), html.unescape(content)) for name, content in _ELEMENT.findall(head))
    return {_ELEMENTS.get(name, name): content for name, content in names}


def page_title(head: str) -> str:
    """The title of a page; without one its first heading and what follows that; else empty."""
    title = _TITLE.search(head)
    if title and title[1].strip():
        return _untagged(title[1])
    seen = _UNSEEN.sub(" ", head)
    if heading := _HEADING.search(seen):
        return ": ".join(filter(None, (_untagged(heading[1]), _untagged(heading[2]))))
    return ""


def _untagged(markup: str) -> str:
    return " ".join(re.sub(r"[<>]", " ", html.unescape(re.sub(r"<[^<>]*>", " ", markup))).split())


_WORDS: tuple[tuple[str, str], ...] = (
    (r"no required ssl certificate|ssl certificate error|client certificate", "a client certificate is required"),
    (r"plain http request was sent to https|http request to an https server", "HTTP was sent to an HTTPS port"),
    (r"header or cookie too large|header fields? too large|headers? too l(?:arge|ong)", "the headers are too large"),
    (r"login|log in|sign in|captive|authenticat", "a login page"),
    (r"captcha|attention required|access denied|blocked|forbidden", "access is denied"),
    (r"no server is available|service unavailable|no healthy upstream", "no server is available"),
    (r"bad gateway", "bad gateway"),
    (r"gateway time-?out", "gateway timeout"),
    (r"not found|no route|unknown host", "no such path or host"),
    (r"\bgone\b", "gone"),
    (r"bad request|invalid request|invalid hostname", "bad request"),
)
_KNOWN = tuple((re.compile(pattern, re.IGNORECASE), words) for pattern, words in _WORDS)


def page_words(page: str) -> str:
    """What a page says, in our own words: the title itself may repeat a document's name."""
    return next((words for pattern, words in _KNOWN if pattern.search(page)), "another page")
