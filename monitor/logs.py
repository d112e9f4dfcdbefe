"""structlog set-up: JSON lines, or readable lines on a terminal, with secrets redacted in every line.

The code that logs names events and fields. The program's own output on stdout does not go through here.
"""

import base64
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, TextIO
from urllib.parse import quote, quote_plus, unquote, urlsplit

import msgspec

from monitor.errors import ConfigError

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # None prevents the import of rich, which is slow and which structlog does not need
    sys.modules["rich"] = None  # type: ignore[assignment]  # documented by Python
    try:
        import structlog
    finally:
        del sys.modules["rich"]
else:
    import structlog


WARNING_INTERVAL_S = 60.0


class WarningLimiter:
    """Counts repeated warnings. Thread-safe."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[float, int]] = {}
        """When it was last reported, and how often it was suppressed since."""
        self._lock = Lock()

    def count_if_due(self, event: str, reason: str, *, now_s: float) -> int | None:
        """How many such warnings to report now, with this one; None: not now. Every `reason` is kept, so use few."""
        with self._lock:
            last_s, suppressed = self._last.get((event, reason), (-math.inf, 0))
            if now_s - last_s < WARNING_INTERVAL_S:
                self._last[event, reason] = last_s, suppressed + 1
                return None
            self._last[event, reason] = now_s, 0
            return 1 + suppressed


_warning_limiter = WarningLimiter()


_MAX_LINES = 12


def code_lines(error: BaseException) -> list[str]:
    """Where an error came from, outermost first, as `monitor/runs/sync.py:88 _stage`; at most 12, the innermost.

    Neither its text nor the values of variables, which may hold the user's data.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{_short_path(each.filename)}:{each.lineno} {each.name}" for each in frames][-_MAX_LINES:]


def crash_text(error: BaseException) -> str:
    """The type of an error that nobody foresaw, and the line of code that raised it."""
    lines = code_lines(error)
    return f"{type(error).__name__} in {lines[-1] if lines else 'unknown code'}"


def log_crash(error: BaseException, **facts: object) -> str:
    """Logs that an error which nobody foresaw ended a run; returns `crash_text`."""
    structlog.get_logger().error("run_crashed", error_type=type(error).__name__, lines=code_lines(error), **facts)
    return crash_text(error)


def _short_path(path: str) -> str:
    """A file as its package names it."""
    parts = path.replace(os.sep, "/").split("/")
    start = next(
        (n for n in range(len(parts) - 1, -1, -1) if parts[n] in {"monitor", "site-packages"}), max(0, len(parts) - 2)
    )
    return "/".join(parts[start + (parts[start] == "site-packages") :])


def warn_rate_limited(event: str, *, reason: str, **facts: object) -> None:
    """Logs a warning at most once a minute per event and reason; `times` counts those since the last one."""
    times = _warning_limiter.count_if_due(event, reason, now_s=monotonic())
    if times is not None:
        structlog.get_logger().warning(event, reason=reason, times=times, **facts)


MASK = "**********"
_ELLIPSIS = "…"
_MAX_TEXT = 2_000
_MAX_TRACEBACK = 8_000
_MAX_DEPTH = 6
_MAX_ELEMENTS = 50
_MIN_CUT_CHARS = 12
"""How much of a secret that was cut gives it away."""
_MIN_SECRET_CHARS = 8
"""Masking a shorter value everywhere would mask ordinary words: `api_key = "index"` in the status `indexed`."""

_MIN_TOKEN_CHARS = 10
"""Shorter parts of a URL's path (`/api/v2`) are words, not secrets."""

_SCHEMES = frozenset({
    "http", "https", "socks5", "socks5h", "sqlite", "postgres", "postgresql", "postgresql+psycopg"
})  # fmt: skip
"""Schemes of ordinary URLs; any other is one of Apprise's."""

_DENIED_ENDINGS = (
    "authorization", "cookie", "credential", "credentials", "database", "dsn", "apikey", "password", "passwd",
    "passphrase", "privatekey", "routingkey", "secret", "secrets", "token", "url",
)  # fmt: skip
_DENIED = frozenset({"apimessage", "body", "content", "document", "headers", "input", "message", "rawbody", "record"})
"""Text of an API or a document. Our own text belongs in the event's name and fields."""
_ALLOWED = frozenset({"baseurl"})

_USERINFO = re.compile(r"(?<=://)[^\s\"']*@")
_QUERY = re.compile(r"(?<=://)([^\s\"'<>?]{0,2000}\?)[^\s\"'<>]+")
_SCHEME = re.compile(r"\b(Bearer|Basic|Digest)\s+[\w.~+/=-]+", re.IGNORECASE)
_ASSIGNED = re.compile(  # begins with a word: a pattern for what precedes it would need minutes for a long text
    r"((?:authorization|api[_-]?key|password|passwd|secret|token)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;)}\]]+", re.IGNORECASE
)


class Redactor:
    """Masks registered secrets, sensitive fields, and text that looks like a credential. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._encoded_secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        """Of all registered secrets; None: there are none, or one was added since it was compiled."""
        self._beginnings: re.Pattern[str] | None = None

    def register(self, value: str) -> None:
        """Masks a value from now on: plain, URL-encoded, and in base64 at any offset (as in a Basic header).

        For a URL with a password, the password alone too. Values below 8 characters are not registered.
        """
        if len(value) < _MIN_SECRET_CHARS or value in self._encoded_secrets:
            return
        with self._lock:
            self._encoded_secrets.update(piece for piece in _encodings(value) if len(piece) >= _MIN_SECRET_CHARS)
            # compiled by the next text: once after each of a thousand secrets takes half a minute
            self._pattern = None

    def event(self, fields: Mapping[str, object]) -> dict[str, object]:
        """The fields of one event as JSON values without secrets: bounded in length, width and depth.

        `exception` keeps its line breaks, and its end rather than its beginning; all other text is one line.
        """
        return {
            self.text(str(key)): self._traceback(value) if key == "exception" else self._field(str(key), value, 0)
            for key, value in fields.items()
        }

    def text(self, text: str) -> str:
        """One line without secrets, at most 2,000 characters; control characters are escaped."""
        clean = _escaped(self._masked(text))
        return clean if len(clean) <= _MAX_TEXT else clean[:_MAX_TEXT] + _ELLIPSIS

    def _traceback(self, value: object) -> str:
        clean = "\n".join(map(_escaped, self._masked(str(value)).split("\n")))
        return clean if len(clean) <= _MAX_TRACEBACK else _ELLIPSIS + clean[-_MAX_TRACEBACK:]

    def _masked(self, text: str) -> str:
        pattern = self._pattern or self._compile()
        masked = text if pattern is None else self._without_cut_secret(pattern.sub(MASK, text))
        masked = _USERINFO.sub(f"{MASK}@", masked)
        masked = _QUERY.sub(rf"\1{MASK}", masked)
        masked = _SCHEME.sub(rf"\1 {MASK}", masked)
        return _ASSIGNED.sub(rf"\1{MASK}", masked)

    def _without_cut_secret(self, text: str) -> str:
        """Masks the beginning of a secret at the end of a text: what an API repeats may have been cut before."""
        if self._beginnings is None:
            return text
        for found in self._beginnings.finditer(text):
            end = text[found.start() :].rstrip(_ELLIPSIS)
            if any(secret.startswith(end) for secret in self._encoded_secrets.copy()):
                return text[: found.start()] + MASK
        return text

    def _compile(self) -> re.Pattern[str] | None:
        with self._lock:
            if self._pattern is None and self._encoded_secrets:
                longest_first = sorted(self._encoded_secrets, key=len, reverse=True)
                # not those of URLs, which begin with a host that many texts name
                secret = (each for each in longest_first if "://" not in each and "%3a" not in each.lower())
                begin = sorted({re.escape(each[:_MIN_CUT_CHARS]) for each in secret if len(each) > _MIN_CUT_CHARS})
                self._beginnings = re.compile(f"(?={'|'.join(begin)})") if begin else None
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            return self._pattern

    def _field(self, key: str, value: object, depth: int) -> object:
        return MASK if value is not None and _is_denied(key) else self._value(value, depth)

    def _value(self, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if abs(value) < 1 << 63 else self.text(hex(value))
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, depth + 1)
        return self.text(_safe_str(value))

    def _container(self, value: Mapping[object, object] | Iterable[object], depth: int) -> object:
        if depth > _MAX_DEPTH:
            return _ELLIPSIS
        if isinstance(value, Mapping):
            pairs = list(value.items())[:_MAX_ELEMENTS]
            return {self.text(str(key)): self._field(str(key), inner, depth) for key, inner in pairs}
        return [self._value(inner, depth) for inner in list(value)[:_MAX_ELEMENTS]]


def _is_denied(key: str) -> bool:
    squashed = re.sub(r"[^a-z0-9]", "", key.casefold())
    return squashed not in _ALLOWED and (squashed in _DENIED or squashed.endswith(_DENIED_ENDINGS))


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  # a broken __str__ must not break the log
        return f"<{type(value).__name__}: str() raised {type(error).__name__}>"


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


_UNESCAPED = ("", "/", "!'()*", "/!'()*")
"""What URL encoders leave as it is besides the unreserved characters: Python's, and JavaScript's encodeURIComponent."""
_UNRESERVED = re.compile(r"[-._~]")
"""Some encoders escape these, too."""


def _encodings(value: str) -> set[str]:
    """Every encoding that gives the value away: plain, URL-encoded, base64 at each of the three offsets."""
    raw = value.encode(errors="surrogatepass")
    found = {value, ascii(value)[1:-1]}
    # a path may hold bytes that are no UTF-8, which Python has as lone surrogates
    found |= {quote(raw, safe=safe) for safe in _UNESCAPED} | {quote_plus(raw), quote_plus(raw, safe="*")}
    found.add(_UNRESERVED.sub(lambda match: f"%{ord(match[0]):02X}", quote(raw, safe="")))
    found |= {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), each) for each in found if "%" in each}
    for offset in range(3):
        found |= {_inner_base64(raw, offset, altchars) for altchars in (b"+/", b"-_")}
    for part in _url_secrets(value):
        found |= {part, unquote(part)}
    return found


def _inner_base64(raw: bytes, offset: int, altchars: bytes) -> str:
    """The base64 characters that depend on `raw` alone if it starts `offset` bytes into a longer text."""
    coded = base64.b64encode(b"\0" * offset + raw, altchars).decode()
    first = -(-offset * 8 // 6)
    last = (offset + len(raw)) * 8 // 6
    return coded[first:last]


def _url_secrets(value: str) -> set[str]:
    """A URL's password and other secret parts: a webhook's are in its path and query, and a receiver may repeat them
    alone; in an Apprise URL they may be anywhere, also in place of the host.
    """
    scheme, mark, rest = value.partition("://")
    try:
        url = urlsplit(value if mark else "")
    except ValueError:
        url = urlsplit("")
    if scheme in {"http", "https"}:
        values = (part.partition("=")[2] for part in url.query.split("&"))
        parts = {url.path, url.query, *url.path.split("/"), *values}
    elif scheme in _SCHEMES:
        pairs = (part.partition("=") for part in url.query.split("&"))
        parts = {value for name, _, value in pairs if _is_denied(name)}  # libpq's ?password=, ?sslpassword=
    else:
        parts = set(re.split(r"[/:@?&=,]+", rest))
    return {part for part in parts if len(part) >= _MIN_TOKEN_CHARS} | {url.password or ""}


if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LEADING = ("timestamp", "level", "event")

_redactor = Redactor()


def configure(
    *, stream: TextIO | None = None, level: str = "INFO", json: bool | None = None, exclude: Collection[str] = ()
) -> None:
    """Sends events of `level` (one of `LEVELS`, in any case) and above to the stream (None: the present stderr), except
    those named in `exclude`. `json` None: lines of JSON unless the stream is a terminal. A later call replaces the
    settings.

    Libraries that use `logging` are captured from WARNING on, as events named `library`, whatever the level: below that
    httpx logs whole URLs, and reqwest (pyreqwest's core, under names such as `reqwest::connect::verbose`) whole
    requests with their credentials.

    Raises:
        ConfigError: there is no such level.
    """
    if level.upper() not in LEVELS:
        raise ConfigError([f"the log level must be one of {', '.join(LEVELS)}"])
    target = sys.stderr if stream is None else stream
    as_json = not target.isatty() if json is None else json
    structlog.configure(
        processors=[
            _dropping(frozenset(exclude)),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _format_exception,
            lambda _logger, _method, event: _redactor.event(event),
            _to_json if as_json else _console(colours=target.isatty() and not os.environ.get("NO_COLOR")),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.BytesLoggerFactory(target.buffer),
        # a cached logger would still write to the old stream
        cache_logger_on_first_use=False,
    )
    _capture_library_logs()


LIBRARY_LOGGER = "ingestion_monitor"
"""The logger of Python's `logging` that gets events where this package is a library."""


def configure_as_library() -> None:
    """Sends events, warnings and above, to the logger `ingestion_monitor`, unless the program has configured structlog.

    A program that uses this package keeps its own streams, levels and handlers. Events are redacted here as well.
    """
    _silence_wire_logs()
    if structlog.is_configured():
        return
    logger = logging.getLogger(LIBRARY_LOGGER)
    if not logger.handlers:  # else Python would print warnings of a program that has not configured logging
        logger.addHandler(logging.NullHandler())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _format_exception,
            lambda _logger, _method, event: _redactor.event(event),
            lambda logger, method, event: _to_json(logger, method, event).decode(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=lambda *_: logger,
        cache_logger_on_first_use=False,
    )


_WIRE_LOGGERS = (
    "reqwest::connect::verbose",
    "reqwest::connect",
    "hyper_util::client::legacy::pool",
    "httpx",
    "httpcore",
)
"""Loggers that write whole requests, or URLs, below WARNING."""


def _silence_wire_logs() -> None:
    """Whatever level the program has set for all loggers: a request has its credentials in it."""
    for name in _WIRE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def register_secret(value: str) -> None:
    """Masks a value in all later events; see `Redactor.register`."""
    _redactor.register(value)


def redact_text(text: str) -> str:
    """A text from outside without registered secrets and anything like one; one line, at most 2,000 characters."""
    return _redactor.text(text)


def _dropping(names: frozenset[str]) -> "Processor":
    def drop(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
        if event["event"] in names:
            raise structlog.DropEvent
        return event

    return drop


def _format_exception(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
    """Replaces `exc_info` by `exception`: types, messages and places, never the values of local variables."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given if isinstance(given, BaseException) else None
    if given is True:
        error = sys.exc_info()[1]
    if error is not None:
        formatted = traceback.TracebackException.from_exception(error, capture_locals=False)
        event["exception"] = "".join(formatted.format()).rstrip()
    return event


def _to_json(_logger: "WrappedLogger", _method: str, event: "EventDict") -> bytes:
    leading = {name: event.pop(name) for name in _LEADING if name in event}
    return msgspec.json.encode({**leading, **event})


def _console(*, colours: bool) -> "Processor":
    renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)

    def render(logger: "WrappedLogger", method: str, event: MutableMapping[str, object]) -> bytes:
        return str(renderer(logger, method, event)).encode()

    return render


_CONNECTION_DETAILS = re.compile(r" \((?:host|hostaddr|port|user|database|dbname|service)=[^)]*\)")
"""psycopg names a connection by its host, user and database."""


class _ToStructlog(logging.Handler):
    """Passes what libraries log through `logging` to structlog, and so through the redaction."""

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises for a record that can't be formatted: `logging` would print its arguments."""
        try:
            text = record.getMessage()
        except Exception as error:  # noqa: BLE001  # a library's bug; the event reports it
            text = f"{record.msg} (its arguments do not fit: {type(error).__name__})"
        if record.name.partition(".")[0] == "psycopg":
            text = _CONNECTION_DETAILS.sub("", text)
        # structlog knows only the five standard levels
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger().log(level, "library", logger=record.name, text=text, exc_info=record.exc_info)


def _capture_library_logs() -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _ToStructlog)]:
        root.removeHandler(handler)
    root.addHandler(_ToStructlog(level=logging.WARNING))
    # for all loggers: levels are set by name, and some names have no common root
    logging.disable(logging.WARNING - 1)
