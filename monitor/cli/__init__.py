"""The command `ingestion-monitor`: parses, calls, prints. Each command imports what it needs when it runs."""

import atexit
import contextlib
import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from monitor.errors import ConfigError, MonitorError

__all__ = ["collect_seldom", "command", "main"]

_FIRST_GC_THRESHOLD, _GC_THRESHOLD = 200_000, 20_000


def command() -> NoReturn:
    """Runs this process's own command line and ends the process with its exit code.

    The interpreter is not torn down. A thread of pyreqwest may still be handing back a connection that failed, and when
    it meets an interpreter that is going it aborts the process: in 1 of 7 runs that end on a dead receiver (exit 134).
    """
    tune_gc()
    # a plugin would be shown every value of the configuration; and to look for some takes pydantic a while
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # whoever read it has gone
            stream.flush()
    atexit._run_exitfuncs()  # noqa: SLF001  # there is no public way to them, and `os._exit` leaves them out
    os._exit(code)


def tune_gc() -> None:
    """Looks for cycles in memory first after 200,000 objects, then every 20,000; every 700 would cost 5% of a run.

    The 140,000 objects of the modules that `check` loads are there to stay; to go through them costs a tenth of it.
    """
    gc.set_threshold(_FIRST_GC_THRESHOLD, 20, 20)
    gc.callbacks.append(_after_first_collection)


def _after_first_collection(_phase: str, _info: object) -> None:
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    gc.callbacks.remove(_after_first_collection)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the command line without the program's name; None takes the process's own.

    Returns:
        The exit code: 0 ran, 1 --fail-on matched, 2 configuration or usage, 3 could not run,
        4 partial, aborted or undeliverable, 5 skipped, 130/143 interrupted.
    """
    from monitor.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # what a terminal can't show must not end a run that did its work
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="ingestion-monitor")
    except MonitorError as error:
        return _print_error(error)
    except SystemExit as end:  # how typer ends: usage errors are shown, Ctrl-C is 130
        return end.code if isinstance(end.code, int) else 0
    return 0


def _print_error(error: MonitorError) -> int:
    """Prints an error as its sentences on stderr; gives back its exit code."""
    sentences = error.problems if isinstance(error, ConfigError) else (str(error),)
    for sentence in sentences:
        print(f"error: {sentence}", file=sys.stderr)
    return error.exit_code
