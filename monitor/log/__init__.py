"""Sets up structlog, straight to bytes: JSON lines, or readable ones on a terminal. Everything passes the redaction.

It names no event and no field; those belong to the code that logs. Not for the program's own output on stdout.
"""

import logging
import os
import sys
import traceback
from collections.abc import Collection, MutableMapping
from typing import TYPE_CHECKING, TextIO

import msgspec

from monitor.errors import ConfigError
from monitor.log.plainly import structlog
from monitor.log.redaction import MASK, Redactor

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["LEVELS", "MASK", "configure", "masked", "register_secret"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LEADING = ("timestamp", "level", "event")

_redactor = Redactor()


def configure(
    *, stream: TextIO | None = None, level: str = "INFO", json: bool | None = None, without: Collection[str] = ()
) -> None:
    """Sends events of `level` and above to the stream. May be called again, which replaces what was set before.

    Libraries that use `logging` are heard from WARNING on, as events named `library`, whatever the level and whatever
    anyone sets for their loggers: below that httpx logs whole URLs, and reqwest (pyreqwest's core, under names such as
    `reqwest::connect::verbose`) whole requests with their credentials.

    Args:
        stream: a text stream over bytes; None is stderr as it is now.
        level: one of `LEVELS`, in any case.
        json: JSON lines; None means: unless the stream is a terminal.
        without: names of events that are left out, whatever their level.

    Raises:
        ConfigError: there is no such level.
    """
    if level.upper() not in LEVELS:
        raise ConfigError([f"the log level must be one of {', '.join(LEVELS)}"])
    target = sys.stderr if stream is None else stream
    as_json = not target.isatty() if json is None else json
    structlog.configure(
        processors=[
            _leaving_out(frozenset(without)),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _tell_exception,
            _redact,
            _to_json if as_json else _console(colours=target.isatty() and not os.environ.get("NO_COLOR")),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.BytesLoggerFactory(target.buffer),
        # a cached logger would go on writing to a stream of before
        cache_logger_on_first_use=False,
    )
    _listen_to_libraries()


def register_secret(value: str) -> None:
    """Masks a value wherever it appears in later events: plain, URL-encoded or in base64.

    Of a URL with a password, the password by itself too. Values below 4 characters are not registered.
    """
    _redactor.register(value)


def masked(text: str) -> str:
    """A text from outside without registered secrets and what looks like one; one line, at most 2,000 characters."""
    return _redactor.text(text)


def _leaving_out(names: frozenset[str]) -> "Processor":
    def leave_out(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
        if event["event"] in names:
            raise structlog.DropEvent
        return event

    return leave_out


def _tell_exception(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
    """Turns `exc_info` into `exception`: types, messages and places, never the values of local variables."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given if isinstance(given, BaseException) else None
    if given is True:
        error = sys.exc_info()[1]
    if error is not None:
        told = traceback.TracebackException.from_exception(error, capture_locals=False)
        event["exception"] = "".join(told.format()).rstrip()
    return event


def _redact(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
    return _redactor.event(event)


def _to_json(_logger: "WrappedLogger", _method: str, event: "EventDict") -> bytes:
    leading = {name: event.pop(name) for name in _LEADING if name in event}
    return msgspec.json.encode({**leading, **event})


def _console(*, colours: bool) -> "Processor":
    renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)

    def render(logger: "WrappedLogger", method: str, event: MutableMapping[str, object]) -> bytes:
        return str(renderer(logger, method, event)).encode()

    return render


class _ToStructlog(logging.Handler):
    """Hands what libraries say through `logging` to structlog, and so through the redaction."""

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises for a record that can't be put together: `logging` would print its arguments."""
        try:
            said = record.getMessage()
        except Exception as error:  # noqa: BLE001  # a library's formatting slip; the event says so
            said = f"{record.msg} (its arguments do not fit: {type(error).__name__})"
        # structlog knows only the five standard levels
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger().log(level, "library", logger=record.name, said=said, exc_info=record.exc_info)


def _listen_to_libraries() -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _ToStructlog)]:
        root.removeHandler(handler)
    root.addHandler(_ToStructlog(level=logging.WARNING))
    # for every logger at once: levels would have to be set by name, and some names have no common root
    logging.disable(logging.WARNING - 1)
