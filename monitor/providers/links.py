"""The next page as a `Link` header names it (RFC 8288), kept to the API that was asked. Pure."""

import re
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from monitor.exchange import sendable
from monitor.model import BadBody

__all__ = ["next_link"]

_LINK = re.compile(r'<([^<>]*+)>((?:\s*+;\s*+[^\s=;,"]++(?:\s*+=\s*+(?:"(?:[^"\\]|\\.)*+"|[^\s;,"]*+))?+)*+)')
_PARAMETER = re.compile(r';\s*+([^\s=;,"]++)(?:\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;,"]*+)))?+')
_KEPT = "/%-._~!$&'()*+,;=:@?[]"
_PORTS = {"http": 80, "https": 443}


def next_link(header: str, *, base_url: str, page: str) -> str | BadBody | None:
    """Where the link with `rel="next"` leads.

    Args:
        header: the `Link` header, repeated ones joined by commas; empty when there is none.
        base_url: of the target, without a trailing slash.
        page: path and query of the page that carried the header, relative to `base_url`.

    Returns:
        Path and query relative to `base_url`; None when there is no such link; a `BadBody` when it leads to another
        origin, out of the path of `base_url`, or can't be read.
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
        return BadBody(reason="the next page lies on another host than base_url")
    prefix = here.path.rstrip("/")
    if not there.path.startswith(f"{prefix}/"):
        return BadBody(reason="the next page lies outside the path of base_url")
    path = _escaped(there.path.removeprefix(prefix)) + (f"?{_escaped(there.query)}" if there.query else "")
    return path if sendable(path) else BadBody(reason="the link to the next page can't be read")


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


def _escaped(text: str) -> str:
    return quote(text, safe=_KEPT, errors="replace")
