"""What URLs of APIs, channels and databases, hosts and mail addresses must look like. Pure; no message quotes one."""

import ipaddress
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

DIRECT = "direct"
"""Instead of a proxy's URL: none at all."""

_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg://"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
"""RFC 5321's dot-string: what stands before the @, without quotes."""
_MAX_MAILBOX, _MAX_HOST = 64, 253
_PORT, _MAX_PORT = re.compile(r"\d{1,5}", re.ASCII), 65535


def validate_base_url(url: str, *, allow_http: bool) -> str:
    """A provider's base URL, without a trailing slash.

    Raises:
        ValueError: not an absolute http(s) URL; plain http beyond this machine unless `allow_http`; or more than
            scheme, host, port and path. The text is a predicate: "must …".
    """
    parts = _parse_web_url(url, 'must be a URL such as "https://platform.ai.gloo.com"')
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must hold only scheme, host and path: credentials belong under auth")
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname or "")):
        raise ValueError("must use https; plain http goes only to this machine, or with allow_http = true")
    return url.rstrip("/")


def validate_webhook_url(url: str) -> str:
    """A channel's URL as it is.

    Raises:
        ValueError: not an absolute http(s) URL.
    """
    _parse_web_url(url, "must be a URL that begins with https:// or http://")
    return url


def validate_heartbeat_url(url: str, *, allow_http: bool) -> str:
    """A dead man's switch's URL as it is: whoever knows it can keep the switch from going off.

    Raises:
        ValueError: not an absolute http(s) URL; plain http beyond this machine unless `allow_http`; or a fragment,
            which nobody would receive.
    """
    parts = _parse_web_url(url, 'must be a URL such as "https://hc-ping.com/your-check"')
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname or "")):
        raise ValueError("must use https; plain http goes only to this machine, or with allow_http = true")
    if parts.fragment:
        raise ValueError("must hold no fragment (#…): it is never sent")
    return url


def validate_pagerduty_url(url: str) -> str:
    """Where PagerDuty takes events, as it is: the routing key goes there.

    Raises:
        ValueError: not an absolute https URL; plain http goes only to this machine.
    """
    parts = _parse_web_url(url, "must be a URL that begins with https://")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must use https: it carries the routing key")
    return url


def validate_alertmanager_url(url: str) -> str:
    """An Alertmanager's address as it is.

    Raises:
        ValueError: not an absolute http(s) URL, or more than scheme, host, port and path.
    """
    parts = _parse_web_url(url, 'must be a URL such as "http://alertmanager:9093"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no credentials: give user and password, or a token")
    if parts.query or parts.fragment:
        raise ValueError('must end with the host, or with the path that comes before "/api/v2/alerts"')
    return url


def validate_apprise_url(url: str) -> str:
    """A URL of Apprise's as it is; whether Apprise makes sense of it is not asked here.

    Raises:
        ValueError: not of the form `scheme://…`.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        raise ValueError('must be a URL of Apprise\'s, such as "ntfy://topic" or "tgram://token/chat"')
    return url


def validate_host(host: str) -> str:
    """A server's name or IP address as it is.

    Raises:
        ValueError: anything else, a URL or a port included.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if len(host) > _MAX_HOST or not _HOST.fullmatch(host):
            raise ValueError("must be a host's name or address alone: the port has a setting of its own") from None
    return host


def parse_listen_address(text: str) -> tuple[str, int]:
    """Host and port of an address to listen on, such as `127.0.0.1:8990` or `[::1]:8990`.

    Raises:
        ValueError: anything else. The text is a predicate: "must …".
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    fault = ValueError('must be a host and a port, such as "127.0.0.1:8990" or "[::1]:8990", or "off"')
    bracketed = bare != host
    if not colon or not _PORT.fullmatch(port) or int(port) > _MAX_PORT or bracketed != (":" in bare):
        raise fault
    try:
        return validate_host(bare), int(port)
    except ValueError:
        raise fault from None


def validate_mail_address(address: str) -> str:
    """A mail address as it is, of ASCII and without a name.

    Raises:
        ValueError: no address, or one that needs quotes or SMTPUTF8.
    """
    mailbox, _, domain = address.rpartition("@")
    if len(mailbox) > _MAX_MAILBOX or not _MAILBOX.fullmatch(mailbox) or not _is_domain(domain):
        raise ValueError('must be a mail address alone, such as "oncall@example.com"')
    return address


def validate_proxy_url(url: str) -> str:
    """A proxy's URL as it is, or `DIRECT`.

    Raises:
        ValueError: another scheme than http, https, socks5 and socks5h, no host, or a path.
    """
    if url == DIRECT:
        return url
    parts = _split_url(url)
    if parts is None or parts.scheme not in {"http", "https", "socks5", "socks5h"} or not parts.hostname:
        raise ValueError('must be a URL that begins with http://, https:// or socks5h:// and names a host, or "direct"')
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must hold only scheme, user, password, host and port: escape special characters (/ as %2F)")
    return url


def normalise_database_url(url: str) -> str:
    """A connection URL as SQLAlchemy reads it: `postgres://` and `postgresql://` go to psycopg 3.

    Raises:
        ValueError: another scheme, no database named, or a URL that can't be taken apart.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite":
        return _validate_sqlite_url(url)
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg"} or not separator:
        raise ValueError("must begin with sqlite:/// or postgresql://; no other database is supported")
    parts = _split_url(f"postgresql://{rest}")
    if parts is None:
        raise ValueError("can't be taken apart: escape special characters in user and password (@ as %40, / as %2F)")
    if parts.path in {"", "/"} and "dbname=" not in parts.query:
        raise ValueError("names no database: end it with /name")
    return _POSTGRESQL + rest


def resolve_sqlite_path(url: str, folder: Path) -> str:
    """A SQLite URL with its relative path taken from `folder`; any other text as it is."""
    if not url.startswith(_SQLITE):
        return url
    path, mark, query = url.removeprefix(_SQLITE).partition("?")
    if not path or path == ":memory:":
        return url
    return f"{_SQLITE}{folder / path}{mark}{query}"


def _validate_sqlite_url(url: str) -> str:
    path = url.removeprefix(_SQLITE).partition("?")[0]
    if not url.startswith(_SQLITE) or path in {"", ":memory:"}:
        raise ValueError('must name a file, as in "sqlite:///monitor.db"')
    return url


def _parse_web_url(url: str, message: str) -> SplitResult:
    parts = _split_url(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(message)
    return parts


def _split_url(url: str) -> SplitResult | None:
    """The parts, or None. urllib's own errors quote the URL, so they stop here."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises on a bad one
    except ValueError:
        return None
    return parts


def _is_domain(domain: str) -> bool:
    return len(domain) <= _MAX_HOST and _HOST.fullmatch(domain) is not None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
