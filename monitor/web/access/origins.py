"""Whether a request was meant for this page and sent by it: Host, Origin, Fetch metadata, and paths to return to. Pure.

Rules: the Host check is what stops DNS rebinding, which needs a name. Fetch metadata: W3C, Fetch Metadata Request
Headers; browsers send it to https and to loopback only, so that Origin is checked, too.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from monitor.config.urls import is_loopback

_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_MAX_PATH = 2000


def host_name(header: str) -> str | None:
    """The name or address in a Host header, in lower case and without a port; None if it is none."""
    match = _HOST.fullmatch(header.strip().lower())
    return None if match is None else (match["v6"] or match["name"].rstrip("."))


def host_port(header: str) -> str:
    """The port that a Host header names; empty if it names none."""
    match = _HOST.fullmatch(header.strip().lower())
    return "" if match is None else (match["port"] or "")


def host_is_served(header: str, *, listen: str, public_url: str | None) -> bool:
    """Whether a request with this Host header may be answered.

    Any IP address may: a page of somebody else's that a browser loads from an address of ours can't have one as its
    own. Of names, only those of loopback, the one that we listen on, and that of `public_url` may.
    """
    name = host_name(header)
    if name is None:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return is_loopback(name) or name in {listen.lower().rstrip("."), _host_of(public_url)}
    return True


def is_public_host(header: str, public_url: str | None) -> bool:
    """Whether a Host header names the host of `public_url`."""
    return public_url is not None and host_name(header) == _host_of(public_url)


def _host_of(url: str | None) -> str | None:
    return None if url is None else (urlsplit(url).hostname or "").rstrip(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """What the headers of a request say about the page that sent it."""

    host: str
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Sender":
        """From headers with names in lower case."""
        return cls(
            host=headers.get("host", ""),
            origin=headers.get("origin"),
            fetch_site=headers.get("sec-fetch-site"),
            fetch_mode=headers.get("sec-fetch-mode"),
        )


def is_own_form(sender: Sender, *, public_url: str | None) -> bool:
    """Whether a POST can come from a form of this page, or from a program, which sends neither of these headers."""
    if sender.fetch_site is not None:
        return sender.fetch_site in {"same-origin", "none"}
    if sender.origin is None:
        return True
    if public_url is not None and sender.origin.lower() == public_url.lower():
        return True
    scheme, mark, authority = sender.origin.lower().partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme)
    if not mark or default is None:
        return False
    return authority.removesuffix(default) == sender.host.lower().removesuffix(default)


def came_by_a_link(sender: Sender) -> bool:
    """Whether a page of another site links to this one: the browser then leaves a SameSite=Strict cookie out."""
    return sender.fetch_site in {"cross-site", "same-site"} and sender.fetch_mode == "navigate"


def local_path(wanted: str) -> str:
    """A path of this page to go to, with its query; "/" for anything else, so that no link leads elsewhere."""
    fits = wanted.startswith("/") and len(wanted) <= _MAX_PATH and wanted.isprintable() and "\\" not in wanted
    if not fits or wanted.startswith("//") or wanted.partition("?")[0] in {"/login", "/logout"}:
        return "/"
    return wanted
