"""`gate`: whether bulk work may proceed, from the database, at once or as soon as it may.

Bulk jobs call it in loops, so it imports no HTTP client and no scheduler.
"""

import signal
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.completion import target_names
from monitor.cli.exit_codes import PAUSE
from monitor.cli.options import AsJson, ConfigPath
from monitor.cli.session import load, parse_duration_option, print_json, print_lines
from monitor.cli.signals import force_exit_after
from monitor.errors import ConfigError, SchemaError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from monitor.config import Config
    from monitor.incidents.gate import GateResult
    from monitor.model.schedule import DueTimes

POLL_S = 2.0
"""Seconds between two queries while a command waits."""
_SIGNAL_POLL_S = 0.2
"""Seconds until a signal is noticed."""
MIN_DURATION, MAX_DURATION = timedelta(seconds=1), timedelta(days=7)
"""Of a wait."""


def gate(
    target: Annotated[
        str,
        typer.Argument(
            help="The target whose API the bulk work would use.", show_default=False, autocompletion=target_names
        ),
    ],
    config: ConfigPath = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            metavar="DURATION",
            help="Wait up to this long for it to open, e.g. 10m.",
            show_default="answer at once",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether bulk work on a target may proceed.

    Exit code: 0, or 75 to pause. It reads the database and asks no API. The gate is closed by an open incident
    spending_limit, rate_limited or outage, and if no run ended within two intervals of the schedule.

    Example: ingestion-monitor gate gloo-prod --wait 10m && ./upload-more
    """
    wait_s = _parse_wait_s(wait)
    loaded = load(config, log_level="warning")
    due_times = _due_times(loaded, target)
    signals = _Signals()
    if wait_s:
        signals.install()
    with closing(_GatePoller(loaded, target, due_times, sleep=signals.sleep)) as poller:
        result = poller.poll(until_s=time.monotonic() + wait_s)
    if as_json:
        from monitor.reports.gate import gate_json

        print_json(gate_json(result))
    else:
        print_lines(result.text)
    raise typer.Exit(0 if result.proceed else PAUSE)


def _parse_wait_s(wait: str | None) -> float:
    if wait is None:
        return 0.0
    read = parse_duration_option(
        "--wait", wait, minimum=MIN_DURATION, maximum=MAX_DURATION, examples='"30s", "10m" or "2h"'
    )
    return read.total_seconds()


def _due_times(config: "Config", name: str) -> "DueTimes":
    for target in config.targets:
        if target.name == name:
            return config.schedule_for(target).due_times(name)
    known = ", ".join(target.name for target in config.targets)
    raise ConfigError([f"there is no target {name!a}; choose from {known}"])


class _Signals:
    """Lets SIGTERM and SIGINT end a wait with 143 and 130, also for process 1 of a container.

    The handler only records the signal: an exception from it might be swallowed, for example in a finalizer.
    """

    def __init__(self) -> None:
        self._received: int | None = None

    def install(self) -> None:
        """Handles signals from now on."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._received = number
        force_exit_after(signal.Signals(number))  # for a database that blocks

    def sleep(self, seconds: float) -> None:
        """Sleeps; a signal raises SystemExit."""
        ends_s = time.monotonic() + seconds
        while self._received is None and (remaining_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(_SIGNAL_POLL_S, remaining_s))
        if self._received is not None:
            raise SystemExit(128 + self._received)


class _GatePoller:
    """Queries the database about one target."""

    def __init__(self, config: "Config", target: str, due_times: "DueTimes", *, sleep: Callable[[float], None]) -> None:
        self._url, self._target, self._due_times = config.database, target, due_times
        self._engine: Engine | None = None
        self._sleep = sleep

    def poll(self, *, until_s: float) -> "GateResult":
        """The result as soon as the gate is open, else the one at `until_s` (monotonic clock)."""
        while True:
            remaining_s = until_s - time.monotonic()
            try:
                result = self._read()
            except SchemaError:
                raise
            except StoreError:
                if remaining_s <= 0:
                    raise
            else:
                if result.proceed or remaining_s <= 0:
                    return result
            self._sleep(min(POLL_S, max(0.0, remaining_s)))

    def close(self) -> None:
        """Closes its connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _read(self) -> "GateResult":
        from monitor.database.engine import reading
        from monitor.database.schema import ensure
        from monitor.reports.gate import gate_view

        self._engine = self._engine or ensure(self._url.reveal())
        with reading(self._engine) as conn:
            return gate_view(conn, target=self._target, due_times=self._due_times, now=datetime.now(UTC))
