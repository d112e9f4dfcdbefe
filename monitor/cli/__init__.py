"""The command `ingestion-monitor`: parses, calls, prints. Each command imports what it needs when it runs."""

import io
import sys
from collections.abc import Sequence

from monitor.errors import ConfigError, MonitorError

__all__ = ["main"]


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
        return _told(error)
    except SystemExit as end:  # how typer ends: usage errors are shown, Ctrl-C is 130
        return end.code if isinstance(end.code, int) else 0
    return 0


def _told(error: MonitorError) -> int:
    """Prints an error as its sentences on stderr; gives back its exit code."""
    sentences = error.problems if isinstance(error, ConfigError) else (str(error),)
    for sentence in sentences:
        print(f"error: {sentence}", file=sys.stderr)
    return error.exit_code
