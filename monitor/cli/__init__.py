"""The command `ingestion-monitor`: one module per command or group. A command imports what it needs when it runs."""

import atexit
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from monitor.cli import early_signals, streams
from monitor.cli.exit_codes import OUTPUT_LOST
from monitor.errors import ConfigError, MonitorError

__all__ = ["command", "main", "tune_gc"]

_FIRST_GC_THRESHOLD, _GC_THRESHOLD = 200_000, 20_000


def command(*, first_handler: object = None) -> NoReturn:
    """Runs the command line of this process and ends the process with its exit code.

    `first_handler` of SIGTERM and SIGINT was set by the entry point, and is replaced.

    It ends without Python's teardown: a thread of pyreqwest may still be releasing a failed connection, and during
    teardown that aborts the process (exit 134, in 1 of 7 runs that end on a dead receiver).
    """
    output = streams.install()  # first, or the next file would take the number of a closed stream
    early_signals.install(
        replacing=first_handler
    )  # before anything slow: as process 1, a signal without a handler is lost
    tune_gc()
    # a plugin would see every value of the configuration, and looking for plugins takes time
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    code = output.finish(main(), lost_code=OUTPUT_LOST)
    atexit._run_exitfuncs()  # noqa: SLF001  # they have no public interface, and `os._exit` skips them
    os._exit(code)


def tune_gc() -> None:
    """Collects garbage first after 200,000 objects, then every 20,000; Python's default, 700, costs 5% of a run.

    The modules that `check` loads have 140,000 objects, which all stay.
    """
    gc.set_threshold(_FIRST_GC_THRESHOLD, 20, 20)
    gc.callbacks.append(_after_first_collection)


def _after_first_collection(_phase: str, _info: object) -> None:
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    gc.callbacks.remove(_after_first_collection)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line, by default that of the process, and returns its exit code (see `exit_codes`)."""
    from monitor.cli.app import command_tree

    try:
        early_signals.imports_done()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # a character that the terminal can't show must not fail the command
                stream.reconfigure(errors="backslashreplace")
        command_tree()(args=arguments, prog_name="ingestion-monitor")
    except MonitorError as error:
        return _print_error(error)
    except SystemExit as end:  # typer has printed usage errors; Ctrl-C is 130
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:  # where typer does not see it: before the command, or behind it
        return 128 + signal.SIGINT
    return 0


def _print_error(error: MonitorError) -> int:
    """Prints an error on stderr, one line per problem; returns its exit code."""
    sentences = error.problems if isinstance(error, ConfigError) else (str(error),)
    for sentence in sentences:
        print(f"error: {sentence}", file=sys.stderr)
    return error.exit_code
