"""Ends a statement on the user's database that does not end by itself, such as the query of a view without end."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

from sqlalchemy import Connection

_REPEAT_S = 0.2
"""An interrupt that comes between two statements has no effect, so it is repeated."""


@contextmanager
def interrupted_from(conn: Connection, ends_s: float | None) -> Iterator[None]:
    """Interrupts whatever runs on the connection from `ends_s` (monotonic) on; None: never."""
    if ends_s is None:
        yield
        return
    driver: Any = conn.connection.driver_connection
    stop = driver.interrupt if isinstance(driver, sqlite3.Connection) else driver.cancel
    errors = cast("type[Exception]", conn.dialect.loaded_dbapi.Error)
    finished = threading.Event()
    watcher = threading.Thread(
        target=_interrupt_until, args=(finished, ends_s, stop, errors), name="sync-log-limit", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join(_REPEAT_S)  # the connection is closed next


def _interrupt_until(
    finished: threading.Event, ends_s: float, stop: Callable[[], object], errors: type[Exception]
) -> None:
    pause_s = ends_s - time.monotonic()
    while not finished.wait(max(0.0, pause_s)):
        with suppress(errors):  # the connection broke: then nothing runs on it
            stop()
        pause_s = _REPEAT_S
