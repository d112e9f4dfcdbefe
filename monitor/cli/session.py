"""What commands do around their work: configuration, logging, database, and output on the right stream."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor import log
from monitor.config import Config
from monitor.wiring import App, open_store

__all__ = ["configure_logging", "load", "opened", "print_json", "print_lines"]


def configure_logging(level: str | None) -> None:
    """Sends logs to stderr; on a terminal, where somebody reads the command's own words, only warnings.

    Raises:
        ConfigError: when there is no such level.
    """
    chosen = level or ("warning" if sys.stderr.isatty() else "info")
    log.configure(level=chosen)


def load(path: Path | None, *, log_level: str | None = None) -> Config:
    """Reads the configuration and tells on stderr what was ignored.

    Raises:
        ConfigError: with every problem found.
    """
    configure_logging(log_level)
    config = Config.load(path)
    for secret in config.secrets():
        log.register_secret(secret.reveal())
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return config


@contextmanager
def opened(config: Config) -> Iterator[App]:
    """The live parts on an open database, which is closed at the end.

    Raises:
        StoreError: when the database can't be used.
    """
    engine = open_store(config)
    try:
        yield App(config=config, engine=engine)
    finally:
        engine.dispose()


def print_lines(text: str) -> None:
    """Prints text on stdout."""
    print(text, flush=True)


def print_json(value: Any) -> None:  # noqa: ANN401  # any JSON value
    """Prints one JSON value on stdout, indented, characters as they are."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)
