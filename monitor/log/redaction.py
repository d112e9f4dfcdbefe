"""Takes secrets and control characters out of what is about to be logged. It writes nothing.

Three nets, one behind the other: keys that never carry anything printable, shapes that give credentials away
(`user:password@`, `Bearer …`, the query of a URL), and the registered values themselves, in every coding in which
they travel.
"""

import base64
import math
import re
import threading
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus, unquote, urlsplit

__all__ = ["MASK", "Redactor"]

MASK = "**********"
_CUT = "…"
_MAX_TEXT = 2_000
_MAX_TRACEBACK = 8_000
_MAX_DEPTH = 6
_MAX_ELEMENTS = 50
_SHORTEST = 4
"""Characters: below this, masking a value everywhere would mask ordinary words."""

_SHORTEST_TOKEN = 10
"""Characters: shorter parts of a URL's path (`/api/v2`) are words, not secrets."""

_SCHEMES = frozenset({
    "http", "https", "socks5", "socks5h", "sqlite", "postgres", "postgresql", "postgresql+psycopg"
})  # fmt: skip
"""Of URLs whose parts are known: what follows another scheme is one of Apprise's."""

_DENIED_ENDINGS = (
    "authorization", "cookie", "credential", "credentials", "database", "dsn", "apikey", "password", "passwd",
    "passphrase", "privatekey", "routingkey", "secret", "secrets", "token", "url",
)  # fmt: skip
_DENIED = frozenset({"apimessage", "body", "content", "document", "headers", "input", "message", "rawbody", "record"})
"""What an API said or a document holds; our own words belong in the event's name and fields."""
_ALLOWED = frozenset({"baseurl"})

_USERINFO = re.compile(r"(?<=://)[^\s\"']*@")
_QUERY = re.compile(r"(?<=://)([^\s\"'<>?]{0,2000}\?)[^\s\"'<>]+")
_SCHEME = re.compile(r"\b(Bearer|Basic|Digest)\s+[\w.~+/=-]+", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"([\w-]*(?:authorization|api[_-]?key|password|passwd|secret|token)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;)}\]]+",
    re.IGNORECASE,
)


class Redactor:
    """Holds the registered secrets and applies the three nets. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, value: str) -> None:
        """Masks a value from now on: plain, URL-encoded, and in base64 at any offset (as in a Basic header).

        Of a URL with a password, the password by itself too. Values below 4 characters are left to the other nets.
        """
        if len(value) < _SHORTEST or value in self._pieces:
            return
        with self._lock:
            self._pieces.update(piece for piece in _codings(value) if len(piece) >= _SHORTEST)
            longest_first = sorted(self._pieces, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def event(self, fields: Mapping[str, object]) -> dict[str, object]:
        """The fields of one event as JSON values without secrets: bounded in length, width and depth.

        `exception` keeps its line breaks, and its end rather than its beginning; all other text is one line.
        """
        return {
            self.text(str(key)): self._traceback(value) if key == "exception" else self._field(str(key), value, 0)
            for key, value in fields.items()
        }

    def text(self, text: str) -> str:
        """One line without secrets, at most 2,000 characters; control characters as escapes."""
        clean = _escaped(self._masked(text))
        return clean if len(clean) <= _MAX_TEXT else clean[:_MAX_TEXT] + _CUT

    def _traceback(self, value: object) -> str:
        clean = "\n".join(map(_escaped, self._masked(str(value)).split("\n")))
        return clean if len(clean) <= _MAX_TRACEBACK else _CUT + clean[-_MAX_TRACEBACK:]

    def _masked(self, text: str) -> str:
        pattern = self._pattern
        masked = text if pattern is None else pattern.sub(MASK, text)
        masked = _USERINFO.sub(f"{MASK}@", masked)
        masked = _QUERY.sub(rf"\1{MASK}", masked)
        masked = _SCHEME.sub(rf"\1 {MASK}", masked)
        return _ASSIGNED.sub(rf"\1{MASK}", masked)

    def _field(self, key: str, value: object, depth: int) -> object:
        return MASK if value is not None and _is_denied(key) else self._value(value, depth)

    def _value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._number(value)
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, depth + 1)
        return self.text(_spoken(value))

    def _number(self, value: float) -> object:
        if isinstance(value, int):
            return value if abs(value) < 1 << 63 else self.text(hex(value))
        return float(value) if math.isfinite(value) else str(value)

    def _container(self, value: Mapping[object, object] | Iterable[object], depth: int) -> object:
        if depth > _MAX_DEPTH:
            return _CUT
        if isinstance(value, Mapping):
            pairs = list(value.items())[:_MAX_ELEMENTS]
            return {self.text(str(key)): self._field(str(key), inner, depth) for key, inner in pairs}
        return [self._value(inner, depth) for inner in list(value)[:_MAX_ELEMENTS]]


def _is_denied(key: str) -> bool:
    squashed = re.sub(r"[^a-z0-9]", "", key.casefold())
    return squashed not in _ALLOWED and (squashed in _DENIED or squashed.endswith(_DENIED_ENDINGS))


def _spoken(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  # a broken __str__ must not break the log, and is reported in it
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _codings(value: str) -> set[str]:
    """Everything that gives the value away: it, its URL-encodings, its base64 at each of the three offsets."""
    raw = value.encode(errors="surrogatepass")
    found = {value, ascii(value)[1:-1], quote(value, safe=""), quote(value), quote_plus(value)}
    found |= {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), each) for each in found if "%" in each}
    for offset in range(3):
        found |= {_inner_base64(raw, offset, altchars) for altchars in (b"+/", b"-_")}
    for part in (_password(value), *_tokens(value)):
        found |= {part, unquote(part)} if part else set()
    return found


def _inner_base64(raw: bytes, offset: int, altchars: bytes) -> str:
    """The characters of base64 that depend on `raw` alone when it stands `offset` bytes into a longer text."""
    coded = base64.b64encode(b"\0" * offset + raw, altchars).decode()
    first = -(-offset * 8 // 6)
    last = (offset + len(raw)) * 8 // 6
    return coded[first:last]


def _tokens(value: str) -> set[str]:
    """What opens a webhook is in the path and query of its URL; a receiver may echo those without the rest.

    In a URL of Apprise's it may be anywhere, in the place of the host as well.
    """
    scheme, mark, rest = value.partition("://")
    if mark and scheme not in _SCHEMES:
        return {part for part in re.split(r"[/:@?&=,]+", rest) if len(part) >= _SHORTEST_TOKEN}
    try:
        url = urlsplit(value) if scheme in {"http", "https"} and mark else None
    except ValueError:
        url = None
    if url is None:
        return set()
    parts = {url.path, url.query, *url.path.split("/"), *(part.partition("=")[2] for part in url.query.split("&"))}
    return {part for part in parts if len(part) >= _SHORTEST_TOKEN}


def _password(value: str) -> str:
    try:
        return urlsplit(value).password or "" if "://" in value else ""
    except ValueError:
        return ""
