"""What canaries say to incidents: `canary_failed` and `canary_slow`, at the end of any run of the target."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, select

from monitor.database.tables import canaries
from monitor.incidents.decide import EvidencePoint
from monitor.incidents.observations import Observation
from monitor.incidents.rulebook import Rule
from monitor.model import Cause, Evidence
from monitor.runs.canary.model import CanaryStatus

_MAX_POINTS = 200
"""Twice what a rule may count (`rules.of`)."""


@dataclass(frozen=True, slots=True)
class CanaryObservations:
    """Reads the canaries of a target; a source of the evaluation."""

    def observe(
        self, conn: Connection, *, target: str, rules: Mapping[Cause, Rule], now: datetime
    ) -> Sequence[Observation]:
        """What the ended canaries of each rule's window say. One that was interrupted says nothing."""
        windows = {cause: rules[cause].window for cause in (Cause.CANARY_FAILED, Cause.CANARY_SLOW)}
        rows = _ended(conn, target=target, since=now - max(windows.values()))

        def within(cause: Cause) -> list[Any]:
            return [row for row in rows if row.finished_at >= now - windows[cause]]

        failed = [(row, row.status == CanaryStatus.FAILED.value) for row in within(Cause.CANARY_FAILED)]
        # one that failed before it was indexed does not show how long that takes
        slow = [(row, bool(row.slow)) for row in within(Cause.CANARY_SLOW) if row.index_s is not None]
        return [_observation(Cause.CANARY_FAILED, failed), _observation(Cause.CANARY_SLOW, slow)]


def _ended(conn: Connection, *, target: str, since: datetime) -> Sequence[Any]:
    """The ended canaries that show something, newest first."""
    said = (CanaryStatus.SUCCEEDED.value, CanaryStatus.FAILED.value)
    query = select(canaries).where(
        canaries.c.target == target, canaries.c.finished_at >= since, canaries.c.status.in_(said)
    )
    return conn.execute(query.order_by(canaries.c.finished_at.desc(), canaries.c.id.desc()).limit(_MAX_POINTS)).all()


def _observation(cause: Cause, said: Sequence[tuple[Any, bool]]) -> Observation:
    points = tuple(EvidencePoint(run_id=row.id, at=row.finished_at, evidence=bad) for row, bad in said)
    streak = [row for row, _ in takewhile(lambda each: each[1], said)]
    return Observation(cause=cause, points=points, evidence=_evidence(cause, streak) if streak else None)


def _evidence(cause: Cause, streak: Sequence[Any]) -> Evidence:
    """What the newest canaries in a row say, newest first."""
    newest = streak[0]
    if cause is Cause.CANARY_SLOW:
        took = f"over slow_after ({round(newest.slow_after_s)} s), the last {round(newest.index_s)} s"
        return Evidence(cause=cause, count=len(streak), breakdown={took: len(streak)}, sample_ids=_ids(newest))
    return Evidence(
        cause=cause,
        count=len(streak),
        breakdown=dict(Counter(f"at {row.failed_step}" for row in streak)),
        sample_ids=_ids(newest),
        request_ids=(newest.request_id,) if newest.request_id else (),
        code=newest.code,
    )


def _ids(row: Any) -> tuple[str, ...]:  # noqa: ANN401  # a row
    return (row.item_id,) if row.item_id else ()
