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

from monitor.cli.session import duration, load, print_json, print_lines
from monitor.cli.signals import end_soon
from monitor.config import Config
from monitor.database.engine import reading
from monitor.database.schema import ensure
from monitor.errors import ConfigError, SchemaError, StoreError
from monitor.incidents import store as incidents
from monitor.incidents.gate import ClosingIncident, GateResult, check_gate
from monitor.model.schedule import DueTimes
from monitor.runs import store as runs


def gate_json(said: GateResult) -> dict[str, Any]:
    """An answer as `gate --json` prints it; of several incidents the highest-ranked one stands first and by itself."""
    first = said.by[0] if said.by else None
    return {
        "target": said.target,
        "proceed": said.proceed,
        "reason": said.reason.value,
        "cause": first.cause.value if first else None,
        "incident_id": first.incident_id if first else None,
        "since": _iso(said.since),
        "last_run_at": _iso(said.last_run_at),
        "text": said.text,
        "incidents": [
            {"cause": each.cause.value, "incident_id": each.incident_id, "since": _iso(each.since)} for each in said.by
        ],
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


PAUSE = 75
"""What `sysexits.h` calls a temporary failure: try again later."""
POLL_S = 2.0
"""So often, in seconds, the database is asked while somebody waits."""
_LOOK_S = 0.2
"""How soon a signal is heeded, in seconds."""
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=7)
"""Of a wait."""


def gate(path: Path | None, target: str, wait: str | None, *, as_json: bool) -> int:
    """Prints whether bulk work on a target may proceed; gives back 0, or 75 for a pause.

    Raises:
        ConfigError: the configuration or an option is wrong, or there is no such target.
        StoreError: the database can't be read; of a wait, at its end.
    """
    patience_s = _patience_s(wait)
    config = load(path, log_level="warning")
    due_times = _due_times(config, target)
    signals = _Signals()
    if patience_s:
        signals.heed()
    with closing(_Gatekeeper(config, target, due_times, pause=signals.pause)) as keeper:
        said = keeper.answer(until_s=time.monotonic() + patience_s)
    if as_json:
        print_json(gate_json(said))
    else:
        print_lines(said.text)
    return 0 if said.proceed else PAUSE


def _patience_s(wait: str | None) -> float:
    if wait is None:
        return 0.0
    read = duration("--wait", wait, shortest=SHORTEST, longest=LONGEST, such_as='"30s", "10m" or "2h"')
    return read.total_seconds()


def _due_times(config: Config, name: str) -> DueTimes:
    for target in config.targets:
        if target.name == name:
            return config.schedule_for(target).due_times(name)
    there = ", ".join(target.name for target in config.targets)
    raise ConfigError([f"there is no target {name!a}; there are {there}"])


class _Signals:
    """Lets SIGTERM and SIGINT end a wait with 143 and 130, also for a process with the number 1, as in containers.

    A handler only takes them down: what it raised might land where exceptions are swallowed, as in a finalizer.
    """

    def __init__(self) -> None:
        self._got: int | None = None

    def heed(self) -> None:
        """From now on."""
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, self._take)

    def _take(self, number: int, _: FrameType | None) -> None:
        self._got = number
        end_soon(signal.Signals(number))  # a database that keeps the process waiting does not keep it for long

    def pause(self, seconds: float) -> None:
        """Waits so long.

        Raises:
            SystemExit: a signal came.
        """
        ends_s = time.monotonic() + seconds
        while self._got is None and (left_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left_s))
        if self._got is not None:
            raise SystemExit(128 + self._got)


class _Gatekeeper:
    """Asks the database about one target."""

    def __init__(self, config: Config, target: str, due_times: DueTimes, *, pause: Callable[[float], None]) -> None:
        self._url, self._target, self._due_times = config.database, target, due_times
        self._engine: Engine | None = None
        self._pause = pause

    def answer(self, *, until_s: float) -> GateResult:
        """The answer as soon as the gate is open, else the one at the end of the wait, on the monotonic clock."""
        while True:
            left_s = until_s - time.monotonic()
            try:
                said = self._ask()
            except SchemaError:
                raise
            except StoreError:
                if left_s <= 0:
                    raise
            else:
                if said.proceed or left_s <= 0:
                    return said
            self._pause(min(POLL_S, max(0.0, left_s)))

    def close(self) -> None:
        """Ends its connections."""
        if self._engine is not None:
            self._engine.dispose()

    def _ask(self) -> GateResult:
        self._engine = self._engine or ensure(self._url.reveal())
        with reading(self._engine) as conn:
            wrong = incidents.unresolved(conn, target=self._target)
            last = runs.last_run(conn, target=self._target)
        return check_gate(
            self._target,
            unresolved=[
                ClosingIncident(cause=cause, incident_id=number, since=since) for cause, number, since in wrong
            ],
            last_run_at=last.finished_at if last else None,
            due_times=self._due_times,
            now=datetime.now(UTC),
        )
