"""What a base URL, a webhook and a connection URL must look like. Pure; no message of it quotes an address."""

import ipaddress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

__all__ = ["DIRECT", "anchor_sqlite", "api_base", "database_url", "heartbeat_url", "proxy_url", "webhook_url"]

DIRECT = "direct"
"""Instead of a proxy's URL: none at all."""

_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg://"


def api_base(url: str, *, allow_http: bool) -> str:
    """A provider's base URL, without a trailing slash.

    Raises:
        ValueError: not an absolute http(s) URL; plain http beyond this machine unless `allow_http`; or more than
            scheme, host, port and path. The text is a predicate: "must …".
    """
    parts = _web(url, 'must be a URL such as "https://platform.ai.gloo.com"')
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must hold only scheme, host and path: credentials belong under auth")
    if parts.scheme == "http" and not (allow_http or _is_loopback(parts.hostname or "")):
        raise ValueError("must use https; plain http goes only to this machine, or with allow_http = true")
    return url.rstrip("/")


def webhook_url(url: str) -> str:
    """A channel's URL as it is.

    Raises:
        ValueError: not an absolute http(s) URL.
    """
    _web(url, "must be a URL that begins with https:// or http://")
    return url


def heartbeat_url(url: str, *, allow_http: bool) -> str:
    """A dead man's switch's URL as it is: whoever knows it can keep the switch from going off.

    Raises:
        ValueError: not an absolute http(s) URL; plain http beyond this machine unless `allow_http`; or a fragment,
            which nobody would receive.
    """
    parts = _web(url, 'must be a URL such as "https://hc-ping.com/your-check"')
    if parts.scheme == "http" and not (allow_http or _is_loopback(parts.hostname or "")):
        raise ValueError("must use https; plain http goes only to this machine, or with allow_http = true")
    if parts.fragment:
        raise ValueError("must hold no fragment (#…): it is never sent")
    return url


def proxy_url(url: str) -> str:
    """A proxy's URL as it is, or `DIRECT`.

    Raises:
        ValueError: another scheme than http, https, socks5 and socks5h, no host, or a path.
    """
    if url == DIRECT:
        return url
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https", "socks5", "socks5h"} or not parts.hostname:
        raise ValueError('must be a URL that begins with http://, https:// or socks5h:// and names a host, or "direct"')
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must hold only scheme, user, password, host and port: escape special characters (/ as %2F)")
    return url


def database_url(url: str) -> str:
    """A connection URL as SQLAlchemy reads it: `postgres://` and `postgresql://` go to psycopg 3.

    Raises:
        ValueError: another scheme, no database named, or a URL that can't be taken apart.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite":
        return _sqlite(url)
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not separator:
        raise ValueError("must begin with sqlite:/// or postgresql://; no other database is supported")
    parts = _split(f"postgresql://{rest}")
    if parts is None:
        raise ValueError("can't be taken apart: escape special characters in user and password (@ as %40, / as %2F)")
    if parts.path in {"", "/"} and "dbname=" not in parts.query:
        raise ValueError("names no database: end it with /name")
    return _POSTGRESQL + rest


def anchor_sqlite(url: str, folder: Path) -> str:
    """A SQLite URL with its relative path taken from `folder`; any other text as it is."""
    if not url.startswith(_SQLITE):
        return url
    path, mark, query = url.removeprefix(_SQLITE).partition("?")
    if not path or path == ":memory:":
        return url
    return f"{_SQLITE}{folder / path}{mark}{query}"


def _sqlite(url: str) -> str:
    path = url.removeprefix(_SQLITE).partition("?")[0]
    if not url.startswith(_SQLITE) or path in {"", ":memory:"}:
        raise ValueError('must name a file, as in "sqlite:///monitor.db"')
    return url


def _web(url: str, otherwise: str) -> SplitResult:
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(otherwise)
    return parts


def _split(url: str) -> SplitResult | None:
    """The parts, or None. urllib's own errors quote the URL, so they stop here."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises on a bad one
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
