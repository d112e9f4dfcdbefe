"""`gate`: answers from the database whether bulk work may proceed, at once or as soon as it may. It asks no API.

Bulk jobs call it in loops: it loads no HTTP client and no scheduler.
"""

import signal
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import Engine

from monitor.cli.session import load, parse_duration_option, print_json, print_lines
from monitor.cli.signals import force_exit_after
from monitor.config import Config
from monitor.database.engine import reading
from monitor.database.schema import ensure
from monitor.errors import ConfigError, SchemaError, StoreError
from monitor.incidents import store as incident_store
from monitor.incidents.gate import ClosingIncident, GateResult, check_gate
from monitor.model.schedule import DueTimes
from monitor.runs import store as run_store


def gate_json(decision: GateResult) -> dict[str, Any]:
    """An answer as `gate --json` prints it; of several incidents the highest-ranked one stands first and by itself."""
    first = decision.by[0] if decision.by else None
    return {
        "target": decision.target,
        "proceed": decision.proceed,
        "reason": decision.reason.value,
        "cause": first.cause.value if first else None,
        "incident_id": first.incident_id if first else None,
        "since": _iso(decision.since),
        "last_run_at": _iso(decision.last_run_at),
        "text": decision.text,
        "incidents": [
            {"cause": each.cause.value, "incident_id": each.incident_id, "since": _iso(each.since)}
            for each in decision.by
        ],
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


PAUSE = 75
"""What `sysexits.h` calls a temporary failure: try again later."""
POLL_S = 2.0
"""So often, in seconds, the database is asked while somebody waits."""
_SIGNAL_POLL_S = 0.2
"""How soon a signal is heeded, in seconds."""
MIN_DURATION, MAX_DURATION = timedelta(seconds=1), timedelta(days=7)
"""Of a wait."""


def gate(path: Path | None, target: str, wait: str | None, *, as_json: bool) -> int:
    """Prints whether bulk work on a target may proceed; gives back 0, or 75 for a pause.

    Raises:
        ConfigError: the configuration or an option is wrong, or there is no such target.
        StoreError: the database can't be read; of a wait, at its end.
    """
    wait_s = _parse_wait_s(wait)
    config = load(path, log_level="warning")
    due_times = _due_times(config, target)
    signals = _Signals()
    if wait_s:
        signals.install()
    with closing(_GatePoller(config, target, due_times, sleep=signals.sleep)) as poller:
        decision = poller.answer(until_s=time.monotonic() + wait_s)
    if as_json:
        print_json(gate_json(decision))
    else:
        print_lines(decision.text)
    return 0 if decision.proceed else PAUSE


def _parse_wait_s(wait: str | None) -> float:
    if wait is None:
        return 0.0
    read = parse_duration_option(
        "--wait", wait, minimum=MIN_DURATION, maximum=MAX_DURATION, examples='"30s", "10m" or "2h"'
    )
    return read.total_seconds()


def _due_times(config: Config, name: str) -> DueTimes:
    for target in config.targets:
        if target.name == name:
            return config.schedule_for(target).due_times(name)
    known = ", ".join(target.name for target in config.targets)
    raise ConfigError([f"there is no target {name!a}; there are {known}"])


class _Signals:
    """Lets SIGTERM and SIGINT end a wait with 143 and 130, also for a process with the number 1, as in containers.

    A handler only takes them down: what it raised might land where exceptions are swallowed, as in a finalizer.
    """

    def __init__(self) -> None:
        self._received: int | None = None

    def install(self) -> None:
        """From now on."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._received = number
        force_exit_after(signal.Signals(number))  # a database that keeps the process waiting does not keep it for long

    def sleep(self, seconds: float) -> None:
        """Waits so long.

        Raises:
            SystemExit: a signal came.
        """
        ends_s = time.monotonic() + seconds
        while self._received is None and (remaining_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(_SIGNAL_POLL_S, remaining_s))
        if self._received is not None:
            raise SystemExit(128 + self._received)


class _GatePoller:
    """Asks the database about one target."""

    def __init__(self, config: Config, target: str, due_times: DueTimes, *, sleep: Callable[[float], None]) -> None:
        self._url, self._target, self._due_times = config.database, target, due_times
        self._engine: Engine | None = None
        self._sleep = sleep

    def answer(self, *, until_s: float) -> GateResult:
        """The answer as soon as the gate is open, else the one at the end of the wait, on the monotonic clock."""
        while True:
            remaining_s = until_s - time.monotonic()
            try:
                decision = self._read_decision()
            except SchemaError:
                raise
            except StoreError:
                if remaining_s <= 0:
                    raise
            else:
                if decision.proceed or remaining_s <= 0:
                    return decision
            self._sleep(min(POLL_S, max(0.0, remaining_s)))

    def close(self) -> None:
        """Ends its connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _read_decision(self) -> GateResult:
        self._engine = self._engine or ensure(self._url.reveal())
        with reading(self._engine) as conn:
            open_incidents = incident_store.unresolved(conn, target=self._target)
            last = run_store.last_run(conn, target=self._target)
        return check_gate(
            self._target,
            unresolved=[
                ClosingIncident(cause=cause, incident_id=number, since=since) for cause, number, since in open_incidents
            ],
            last_run_at=last.finished_at if last else None,
            due_times=self._due_times,
            now=datetime.now(UTC),
        )
