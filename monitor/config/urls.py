"""Validates URLs, hosts and mail addresses. Pure.

Each function returns its argument, in normal form where its docstring says so, or raises ValueError with a predicate
("must …") that quotes nothing.
"""

import ipaddress
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from monitor.database.postgres_url import ESCAPE

DIRECT = "direct"
"""In place of a proxy's URL: no proxy."""

_SQLITE = "sqlite:///"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
"""RFC 5321's dot-string: the part before the @, without quotes."""
_MAX_MAILBOX, _MAX_HOST = 64, 253
_QUOTED_NAME, _ESCAPED = re.compile(r'"((?:[^"\\]|\\.)*)"'), re.compile(r"\\(.)")
_PLAIN_NAME = re.compile(r"[^\"<>@,:;\[\]\\]*")
"""Brackets in it are a part of the name, although RFC 5322 has comments there."""
_APPRISE_OVER_HTTP = frozenset({
    "apprise", "bark", "enigma2", "form", "goalert", "gorush", "gotify", "hassio", "humhub", "json", "kodi", "mastodon",
    "misskey", "mmost", "ncloud", "nctalk", "onebot", "parsep", "pjet", "rocket", "signal", "smseagle", "synology",
    "toot", "xbmc", "xml",
})  # fmt: skip
"""Apprise's schemes of services that always speak http to the host named, and https with an `s` after the scheme."""
_PORT, _MAX_PORT = re.compile(r"\d{1,5}", re.ASCII), 65535


def validate_base_url(url: str, *, allow_http: bool) -> str:
    """A provider's base URL (scheme, host, port and path), without a trailing slash."""
    parts = _parse_web_url(url, 'must be a URL such as "https://platform.ai.gloo.com"')
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must contain only scheme, host and path: put credentials under auth")
    _require_https(parts, allow_http=allow_http)
    return url.rstrip("/")


def validate_webhook_url(url: str) -> str:
    """A channel's absolute http(s) URL."""
    _parse_web_url(url, "must be a URL that starts with https:// or http://")
    return url


def require_https(url: str, *, allow_http: bool) -> str:
    """A channel's http(s) URL, once it is known that it is, or goes with, a secret."""
    _require_https(urlsplit(url), allow_http=allow_http)
    return url


def require_apprise_tls(url: str, *, allow_http: bool) -> str:
    """An Apprise URL. Those of services that you run yourself end in `s` for https: `gotifys://`, `jsons://`."""
    scheme, host = url.partition("://")[0].lower(), _apprise_host(url)
    if scheme in _APPRISE_OVER_HTTP and not (allow_http or is_loopback(host)):
        raise ValueError(
            f'must use https, as in "{scheme}s://"; plain http is only allowed to this machine, or with '
            "allow_http = true"
        )
    return url


def validate_heartbeat_url(url: str, *, allow_http: bool) -> str:
    """The URL of a dead man's switch. It is a secret: anyone who knows it can keep the switch from firing."""
    parts = _parse_web_url(url, 'must be a URL such as "https://hc-ping.com/your-check"')
    _require_https(parts, allow_http=allow_http)
    if parts.fragment:
        raise ValueError("must contain no fragment (#…), which is never sent: remove it")
    return url


def validate_pagerduty_url(url: str) -> str:
    """The URL that receives PagerDuty events, with the routing key: https, or http to this machine."""
    parts = _parse_web_url(url, "must be a URL that starts with https://")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must use https: the routing key is sent to it")
    return url


def validate_alertmanager_url(url: str) -> str:
    """An Alertmanager's address: scheme, host, port and path."""
    parts = _parse_web_url(url, 'must be a URL such as "http://alertmanager:9093"')
    if parts.username is not None or parts.password is not None:
        raise ValueError("must contain no credentials: give user and password, or a token")
    if parts.query or parts.fragment:
        raise ValueError('must end with the host, or with the path before "/api/v2/alerts"')
    return url


def validate_public_url(url: str) -> str:
    """The page's own address, scheme, host and port, without a trailing slash: https, or http to this machine."""
    parts = _parse_web_url(url, 'must be a URL such as "https://monitor.example.com"')
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must contain only scheme, host and port: messages show it to everyone who gets them")
    if parts.path not in {"", "/"}:
        raise ValueError("must end with the host or port: the page can't be served under a path")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("must use https; plain http is only allowed to this machine")
    try:
        validate_host(parts.hostname or "")
    except ValueError:
        raise ValueError("must have a host name of ASCII letters, or an address (IDNA writes others)") from None
    return url.rstrip("/")


def validate_apprise_url(url: str) -> str:
    """A URL of the form `scheme://…`. It does not ask Apprise whether it knows the scheme."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://\S+", url):
        raise ValueError('must be an Apprise URL, such as "ntfy://topic" or "tgram://token/chat"')
    return url


def validate_host(host: str) -> str:
    """A server's name or IP address, without a port."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if len(host) > _MAX_HOST or not _HOST.fullmatch(host):
            raise ValueError("must be only a host name or address: set port separately") from None
    return host


def parse_mailbox(text: str) -> tuple[str, str]:
    """Name (may be empty) and address of a sender: `a@b`, `Name <a@b>` or `"Name, with a comma" <a@b>`."""
    name, bracket, rest = text.rpartition("<")
    address = rest.removesuffix(">") if bracket else text
    quoted = _QUOTED_NAME.fullmatch(name.strip())
    if bracket and (address == rest or not (quoted or _PLAIN_NAME.fullmatch(name))):
        raise ValueError(
            "must be a mail address, with or without a name; quote a name with special characters, as in "
            "'\"Monitor, Ingestion\" <monitor@example.com>'"
        )
    validate_mail_address(address)
    return (_ESCAPED.sub(r"\1", quoted[1]) if quoted else name.strip()), address


def validate_sender(text: str) -> str:
    """The text, if `parse_mailbox` can read it."""
    parse_mailbox(text)
    return text


def parse_listen_address(text: str) -> tuple[str, int]:
    """Host and port of an address to listen on, such as `127.0.0.1:8990` or `[::1]:8990`."""
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
    """A mail address without a name, and without quotes or characters that need SMTPUTF8."""
    mailbox, _, domain = address.rpartition("@")
    fits = len(mailbox) <= _MAX_MAILBOX and len(domain) <= _MAX_HOST
    if not fits or not _MAILBOX.fullmatch(mailbox) or not _HOST.fullmatch(domain):
        raise ValueError('must be only a mail address, such as "oncall@example.com"')
    return address


def validate_proxy_url(url: str) -> str:
    """`DIRECT`, or a proxy's URL: http, https, socks5 or socks5h, with a host and no path."""
    if url == DIRECT:
        return url
    _reject_unescaped(url)
    parts = _split_url(url)
    if parts is None or parts.scheme not in {"http", "https", "socks5", "socks5h"} or not parts.hostname:
        raise ValueError('must be a URL with http://, https:// or socks5h:// and a host, or "direct"')
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"must contain only scheme, user, password, host and port: escape {ESCAPE}")
    return url


def validate_database_url(url: str) -> str:
    """A connection URL of SQLite or PostgreSQL, by the parser that will also read it at its use."""
    from monitor.database.urls import parse  # it loads SQLAlchemy, which not every command needs

    parse(url)
    return url


def validate_postgres_url(url: str) -> str:
    """A connection URL of PostgreSQL."""
    from monitor.database.urls import is_sqlite, parse

    if is_sqlite(parse(url)):
        raise ValueError("must start with postgresql://")
    return url


def resolve_sqlite_path(url: str, folder: Path) -> str:
    """A SQLite URL with its path resolved against `folder`; any other text unchanged."""
    if not url.startswith(_SQLITE):
        return url
    path, mark, query = url.removeprefix(_SQLITE).partition("?")
    if not path or path == ":memory:":
        return url
    return f"{_SQLITE}{folder / path}{mark}{query}"


def _require_https(parts: SplitResult, *, allow_http: bool) -> None:
    if parts.scheme == "http" and not (allow_http or is_loopback(parts.hostname or "")):
        raise ValueError("must use https; plain http is only allowed to this machine, or with allow_http = true")


def _apprise_host(url: str) -> str:
    """The host of an Apprise URL; empty if there is none."""
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _parse_web_url(url: str, message: str) -> SplitResult:
    _reject_unescaped(url)
    parts = _split_url(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(message)
    return parts


def _reject_unescaped(url: str) -> None:
    """Refuses special characters of a user or password that would move a part of it into the host, path or query.

    An `@` may be in the value of a query parameter after a path, as in `/send?to=oncall@example.com`.
    """
    rest = url.partition("://")[2]
    head, _, fragment = rest.partition("#")
    address, _, query = head.partition("?")
    authority, slash, path = address.partition("/")
    user_info, _, _ = authority.rpartition("@")
    names = [name if equals else "@" for name, equals, _ in (pair.partition("=") for pair in query.split("&"))]
    query_fits = "@" not in query or (slash and "@" not in "".join(names))
    if "@" in user_info + path + fragment or user_info.count(":") > 1 or not query_fits:
        raise ValueError(
            f"has an @ or : where none can be: write them in user, password and path as escapes ({ESCAPE})"
        )


def _split_url(url: str) -> SplitResult | None:
    """The parts, or None. urllib's errors quote the URL, so they are not passed on."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises on a bad one
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
