"""The next page of a list: by `Link` header, cursor, offset or page number, in the query or in the body. Pure.

A page's request carries the progress so far, so reading a page again changes nothing. The caller must stop if an API
leads it in a circle.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import msgspec

from monitor.model import BadBody
from monitor.model.http import Request, is_valid_path
from monitor.model.json_body import decode_json
from monitor.providers.paths import scalar_text, value_at
from monitor.providers.templates import with_parameter

_LINK = re.compile(r'<([^<>]*+)>((?:\s*+;\s*+[^\s=;,"]++(?:\s*+=\s*+(?:"(?:[^"\\]|\\.)*+"|[^\s;,"]*+))?+)*+)')
_PARAMETER = re.compile(r';\s*+([^\s=;,"]++)(?:\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;,"]*+)))?+')
_UNESCAPED = "/%-._~!$&'()*+,;=:@?[]"
_PORTS = {"http": 80, "https": 443}


def next_link(header: str, *, base_url: str, page: str) -> str | BadBody | None:
    """Where `rel="next"` leads, as path and query relative to `base_url` (no trailing slash); None without such a link.

    A `BadBody` if it leads to another origin or out of the path of `base_url`, or can't be read.
    """
    target = _target(header)
    if target is None:
        return None
    try:
        here, there = urlsplit(base_url), urlsplit(urljoin(base_url + page, target))
        elsewhere = _origin(here) != _origin(there)
    except ValueError:
        return BadBody(reason="the link to the next page can't be read")
    if elsewhere:
        return BadBody(reason="the next page is on another host than base_url")
    prefix = here.path.rstrip("/")
    if not there.path.startswith(f"{prefix}/"):
        return BadBody(reason="the next page is outside the path of base_url")
    path = _escape(there.path.removeprefix(prefix)) + (f"?{_escape(there.query)}" if there.query else "")
    return path if is_valid_path(path) else BadBody(reason="the link to the next page can't be read")


def _target(header: str) -> str | None:
    for link in _LINK.finditer(header):
        for name, quoted, bare in _PARAMETER.findall(link[2]):
            if name.lower() == "rel":
                if "next" in (quoted or bare).lower().split():
                    return link[1].strip()
                break  # only the first counts (RFC 8288, 3.3)
    return None


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)


def _escape(text: str) -> str:
    return quote(text, safe=_UNESCAPED, errors="replace")


_DEFAULT_PARAMETERS = {"cursor": "cursor", "offset": "offset", "number": "page"}


class PageRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one page leads to the next: a target's `[targets.list.page]`."""

    by: Literal["none", "link", "cursor", "offset", "number"] = "none"
    parameter: str | None = None
    """The parameter for cursor, offset or page number; None for the usual name."""
    in_: Literal["query", "body"] | None = msgspec.field(default=None, name="in")
    """Where the parameters go; None: into the body of a POST, else into the query."""
    next: str = "next_cursor"
    """Where the body has the cursor of the next page."""
    more: str | None = None
    """Where the body says whether there are more pages; false ends the list."""
    total: str | None = None
    """Where the body has the number of all items."""
    size: Annotated[int, msgspec.Meta(ge=1)] | None = None
    size_parameter: str = "limit"
    first: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Number of the first page."""

    @property
    def page_parameter(self) -> str:
        """The parameter that selects a page."""
        return self.parameter or _DEFAULT_PARAMETERS.get(self.by, "cursor")


class PageRequest(Request, frozen=True, kw_only=True):
    """The request for one page, with the progress so far."""

    start: str
    """Path and query that all pages share."""
    start_body: bytes | None = None
    """The body that all pages share, if the page is selected in the body; else `body` is the same for all."""
    position: int = 0
    """Its offset or page number, if pages have one."""
    seen: int = 0
    """Items on the pages before it."""
    known: int = 0
    """Of these, different ones."""
    stale: int = 0
    """Pages right before it that had nothing new, the last of them included."""


def first_page(rule: PageRule, request: Request) -> PageRequest:
    """The request for the first page. The body of `request`, if pages are selected there, is a JSON object."""
    in_body = (rule.in_ or ("body" if request.method == "POST" else "query")) == "body"
    body = request.body or (b"{}" if in_body else None)
    shared = PageRequest(
        method=request.method,
        path=request.path,
        template=request.template,
        headers=request.headers,
        body=body,
        max_bytes=request.max_bytes,
        start=request.path,
        start_body=body if in_body else None,
        position=rule.first if rule.by == "number" else 0,
    )
    if rule.size is not None:
        shared = _with(shared, rule.size_parameter, rule.size)
    start = msgspec.structs.replace(shared, start=shared.path, start_body=shared.body if in_body else None)
    return _with(start, rule.page_parameter, start.position) if rule.by in {"number", "offset"} else start


def _with(page: PageRequest, name: str, value: str | int) -> PageRequest:
    """The page with a parameter added to what all pages share."""
    if page.start_body is None:
        return msgspec.structs.replace(page, path=with_parameter(page.start, name, str(value)))
    return msgspec.structs.replace(page, body=msgspec.json.encode({**decode_json(page.start_body, dict), name: value}))


MAX_REPEATED_PAGES = 3
"""Pages in a row that only repeat items: a list may shift while it is read, and so repeat a page."""
MAX_EMPTY_PAGES = 100
"""Pages in a row without any item: an API that filters after it cut the pages sends some."""


def next_page(
    rule: PageRule,
    page: PageRequest,
    *,
    body: object,
    count: int,
    headers: Mapping[str, str],
    base_url: str,
    known: int | None = None,
) -> PageRequest | BadBody | None:
    """The request for the next page, None after the last, or why the rest of the list can't be read.

    `body` is the decoded answer with `count` items; with them, `known` different ones were read (None: all differ).
    Names of `headers` are in lower case.
    """
    if rule.by == "none":
        return None
    following: PageRequest | BadBody | None
    if rule.by == "link":
        path = next_link(headers.get("link", ""), base_url=base_url, page=page.path)
        following = msgspec.structs.replace(page, path=path) if isinstance(path, str) else path
    else:
        value = _cursor(rule, body) if rule.by == "cursor" else _following_position(rule, page, body, count)
        following = value if isinstance(value, BadBody | None) else _with(page, rule.page_parameter, value)
    if not isinstance(following, PageRequest):
        return following
    known = page.known + count if known is None else known
    stale = 0 if known > page.known else page.stale + 1
    if stale >= (MAX_REPEATED_PAGES if count else MAX_EMPTY_PAGES):
        # an API that ignores the page parameter sends the first page for ever
        return BadBody(reason=f"{stale} pages of the list in a row have no new items: the pages lead in a circle")
    if not is_valid_path(following.path):
        return BadBody(reason="the list's cursor is too long to send")
    position = _next_position(rule, page, count)
    return msgspec.structs.replace(following, position=position, seen=page.seen + count, known=known, stale=stale)


def _cursor(rule: PageRule, body: object) -> str | int | BadBody | None:
    """The cursor of the next page, a number as the number that it is."""
    more = _has_more(rule, body)
    if isinstance(more, BadBody):
        return more
    found = value_at(body, rule.next)
    cursor = scalar_text(found)
    if more is False or (more is None and (found is None or cursor == "")):
        return None
    if found is None or cursor == "":
        return BadBody(reason="the list says that there are more pages, but names no next page")
    if cursor is None:
        return BadBody(reason="the list's cursor is neither a text nor a number")
    return found if isinstance(found, int) and not isinstance(found, bool) else cursor


def _following_position(rule: PageRule, page: PageRequest, body: object, count: int) -> int | BadBody | None:
    more, total = _has_more(rule, body), _total(rule, body)
    if isinstance(more, BadBody):
        return more
    if isinstance(total, BadBody):
        return total
    if count == 0 or more is False or (total is not None and page.seen + count >= total):
        return None
    if total is None and more is None and rule.size is not None and count < rule.size:
        return None  # a short page is the last, unless the list says otherwise
    return _next_position(rule, page, count)


def _next_position(rule: PageRule, page: PageRequest, count: int) -> int:
    """The next page's offset or number. An offset counts the items received: an API may send fewer than requested."""
    return page.position + (1 if rule.by == "number" else count)


def _has_more(rule: PageRule, body: object) -> bool | BadBody | None:
    value = value_at(body, rule.more) if rule.more is not None else None
    if value is None or isinstance(value, bool):
        return value
    return BadBody(reason="the field that says whether there are more pages is neither true nor false")


def _total(rule: PageRule, body: object) -> int | BadBody | None:
    value = value_at(body, rule.total) if rule.total is not None else None
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    return BadBody(reason="the list's total is not a whole number")
