"""What waits say about a target at the end of its runs: evidence of `polling_timeouts`.

Only waits that ended by themselves count: one that was interrupted or killed says nothing about how long items take.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from monitor.database import leases
from monitor.incidents.decide import DecisionReason, EvidencePoint
from monitor.incidents.observations import Observation
from monitor.incidents.rulebook import Rule
from monitor.model import Cause, Evidence
from monitor.waits import store
from monitor.waits.rules import WaitResult
from monitor.waits.store import StoredWait

_COUNTED = frozenset({WaitResult.COMPLETED, WaitResult.FAILED, WaitResult.TIMED_OUT, WaitResult.STOPPED})
_CLEAN = frozenset({WaitResult.COMPLETED, WaitResult.FAILED})
"""Every item was settled in time. One that stopped shows neither that there is time enough, nor that there is not."""
_SPARE = 3
"""So many times the waits that a rule counts are read, as some of them do not count."""


class PollingTimeouts:
    """The source of `polling_timeouts`."""

    def observe(
        self, conn: Connection, *, target: str, rules: Mapping[Cause, Rule], now: datetime
    ) -> Sequence[Observation]:
        """What the newest waits say. It also closes the rows of killed waits, which then say nothing."""
        rule = rules[Cause.POLLING_TIMEOUTS]
        if not store.any_known(conn, target=target):
            return ()
        store.close_killed(conn, now=leases.lease_now(conn, utcnow=lambda: now))
        newest = store.newest(conn, target=target, limit=_SPARE * max(rule.of, rule.resolve_after))
        if not newest:
            return ()
        inside = [each for each in newest if now - each.finished_at <= rule.window]
        if not inside:
            return (Observation(cause=rule.cause, resolved_by=DecisionReason.NOT_OBSERVED),)
        counted = [each for each in inside if each.result in _COUNTED]
        return (_observation(rule, counted),) if counted else ()


def _observation(rule: Rule, waits: Sequence[StoredWait]) -> Observation:
    points = [
        EvidencePoint(
            run_id=each.id,
            at=each.finished_at,
            evidence=each.result is WaitResult.TIMED_OUT,
            confirms_recovery=each.result in _CLEAN,
        )
        for each in waits
    ]
    if not points[0].evidence:
        return Observation(cause=rule.cause, points=points)
    timed_out = [each for each in waits[: rule.of] if each.result is WaitResult.TIMED_OUT]
    evidence = Evidence(cause=rule.cause, count=len(timed_out), breakdown={"timed out": len(timed_out)})
    return Observation(cause=rule.cause, points=points, evidence=evidence)
