"""A command that counts its SQL on SQLite: `BUILD/bin/python benchmarks/counted.py FILE WORDS…`.

Into the file go, as JSON, the number of its statements, without BEGIN, PRAGMA and the like, and the CPU seconds in
SQLite: those of the threads while statements are executed and rows fetched. Only `sqlite3` is replaced, so it works
for any build.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

_NOT_COUNTED = ("BEGIN", "COMMIT", "ROLLBACK", "PRAGMA", "SAVEPOINT", "RELEASE")
_lock = threading.Lock()
_spent = {"statements": 0, "cpu_s": 0.0}


def _timed(method: Callable[..., Any], statements: int) -> Callable[..., Any]:
    def call(cursor: sqlite3.Cursor, *given: Any) -> Any:  # noqa: ANN401  # any arguments
        began_s = time.thread_time()
        try:
            return method(cursor, *given)
        finally:
            with _lock:
                _spent["statements"] += statements and not str(given[0]).lstrip().upper().startswith(_NOT_COUNTED)
                _spent["cpu_s"] += time.thread_time() - began_s

    return call


class _Cursor(sqlite3.Cursor):
    execute = _timed(sqlite3.Cursor.execute, 1)
    executemany = _timed(sqlite3.Cursor.executemany, 1)
    executescript = _timed(sqlite3.Cursor.executescript, 1)
    fetchone = _timed(sqlite3.Cursor.fetchone, 0)
    fetchmany = _timed(sqlite3.Cursor.fetchmany, 0)
    fetchall = _timed(sqlite3.Cursor.fetchall, 0)
    __next__ = _timed(sqlite3.Cursor.__next__, 0)


class _Counted:
    """Mixed into the class of a connection."""

    def cursor(self, factory: type[sqlite3.Cursor] = _Cursor) -> sqlite3.Cursor:
        found: sqlite3.Cursor = super().cursor(factory)  # type: ignore[misc]  # of sqlite3.Connection
        return found


_opened = sqlite3.connect


def _connect(*given: Any, factory: type[sqlite3.Connection] = sqlite3.Connection, **named: Any) -> sqlite3.Connection:  # noqa: ANN401  # any arguments
    members = {name: _timed(getattr(factory, name), 0) for name in ("commit", "rollback")}
    return _opened(*given, factory=type("Counted", (_Counted, factory), members), **named)


def main() -> None:
    """Runs the command and writes the counts; ends without the interpreter's teardown, as the command does."""
    import sys

    path, words = sys.argv[1], sys.argv[2:]
    sqlite3.connect = sqlite3.dbapi2.connect = _connect  # type: ignore[assignment, attr-defined]  # also of SQLAlchemy
    from monitor.cli import main as command

    code = command(words)
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123  # builds may have any Python
        json.dump(_spent, file)
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
