"""The totals of all runs that ever ended, for counters: whatever process executed a run, it is counted once.

They are added to in the transaction that closes a run, and never fall, though old runs are pruned.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import accumulate

import msgspec
from sqlalchemy import Connection, select, text

from monitor.database.engine import in_chunks
from monitor.database.report_tables import run_totals
from monitor.model import RunStatus
from monitor.runs.report import RunReport

DURATION_BUCKETS_S = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 600.0, 1800.0)
"""Upper bounds of the histogram. The default deadline of a run is four minutes."""


class _Name(StrEnum):
    """What is counted; what the label is."""

    RUNS = "runs"
    """The status."""
    REQUESTS = "requests"
    """The status class."""
    RETRIES = "retries"
    DURATION = "duration"
    """The upper bound of the duration in seconds; empty: longer than the last bound."""
    SECONDS = "seconds"
    CRASHES = "crashes"


class RunTotals(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of one target."""

    runs: Counter[RunStatus] = msgspec.field(default_factory=Counter)
    """Of runs that their own process closed."""
    requests: Counter[str] = msgspec.field(default_factory=Counter)
    """Requests, retries included, by status class."""
    retries: int = 0
    durations: Sequence[int] = (0,) * (len(DURATION_BUCKETS_S) + 1)
    """How many took up to each of `DURATION_BUCKETS_S`, and how many there are: cumulative."""
    duration_s: float = 0.0
    """Sum of all."""
    crashes: int = 0
    """Runs that an error ended which nobody foresaw."""


def add(conn: Connection, report: RunReport) -> None:
    """Counts a run, in the transaction that closes it."""
    place = bisect_left(DURATION_BUCKETS_S, report.duration_s)
    bound = str(DURATION_BUCKETS_S[place]) if place < len(DURATION_BUCKETS_S) else ""
    counted = [
        (_Name.RUNS, report.status.value, 1.0),
        (_Name.DURATION, bound, 1.0),
        (_Name.SECONDS, "", report.duration_s),
        (_Name.RETRIES, "", report.retries),
        *((_Name.REQUESTS, status_class, number) for status_class, number in report.attempts.items()),
    ]
    _add(conn, report.target, [each for each in counted if each[2]])


def add_crash(conn: Connection, *, target: str) -> None:
    """Counts a run that an unforeseen error ended, in the transaction that closes it."""
    _add(conn, target, [(_Name.CRASHES, "", 1)])


def _add(conn: Connection, target: str, counted: Iterable[tuple[_Name, str, float]]) -> None:
    conn.execute(
        _UPSERT,
        [
            {"target": target, "name": name.value, "label": label, "total": float(number)}
            for name, label, number in counted
        ],
    )


_UPSERT = text(
    "INSERT INTO run_totals (target, name, label, total) VALUES (:target, :name, :label, :total) "
    "ON CONFLICT (target, name, label) DO UPDATE SET total = run_totals.total + excluded.total"
)


def read(conn: Connection, *, targets: Sequence[str]) -> dict[str, RunTotals]:
    """The totals of targets, whatever the history; without targets that never ran."""
    found: dict[str, dict[_Name, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for chunk in in_chunks(targets):
        for row in conn.execute(select(run_totals).where(run_totals.c.target.in_(chunk))):
            found[row.target][_Name(row.name)][row.label] = row.total
    return {target: _totals(by_name) for target, by_name in found.items()}


def _totals(by_name: dict[_Name, dict[str, float]]) -> RunTotals:
    durations = by_name[_Name.DURATION]
    bounds = [*map(str, DURATION_BUCKETS_S), ""]
    return RunTotals(
        runs=Counter({RunStatus(label): int(total) for label, total in by_name[_Name.RUNS].items()}),
        requests=Counter({label: int(total) for label, total in by_name[_Name.REQUESTS].items()}),
        retries=int(by_name[_Name.RETRIES].get("", 0)),
        durations=tuple(accumulate(int(durations.get(bound, 0)) for bound in bounds)),
        duration_s=by_name[_Name.SECONDS].get("", 0.0),
        crashes=int(by_name[_Name.CRASHES].get("", 0)),
    )
