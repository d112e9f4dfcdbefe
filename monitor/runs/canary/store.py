"""Queries of the table `canaries`. Functions with a connection work inside the caller's transaction."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, cast, func, insert, select, text, update

from monitor.database.engine import in_chunks
from monitor.database.lookups import TARGETS
from monitor.database.tables import CANARY_IS_PENDING, canaries
from monitor.runs.canary.model import CanaryReport, CanaryStatus, CleanUp, Document, Step, StepFailure

LEASE_PREFIX = ":canary "
"""In front of a target's name, which has no colon: a canary does not wait for a run, nor a run for a canary."""
_MAX_CODE, _MAX_REASON = 200, 500


def lease_of(target: str) -> str:
    """What the lease of a target's canaries is called."""
    return f"{LEASE_PREFIX}{target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A canary whose document may still be there."""

    id: int
    document: Document
    started_at: datetime


def already_run(conn: Connection, *, target: str, run_key: str) -> bool:
    """Whether a canary of this run key was begun."""
    query = select(canaries.c.id).where(canaries.c.target == target, canaries.c.run_key == run_key)
    return conn.execute(query.limit(1)).first() is not None


def own_ids(conn: Connection, *, target: str) -> frozenset[str]:
    """The ids of the documents of a target's canaries: none of them is an item, even if the sync log has it."""
    query = select(canaries.c.item_id).where(canaries.c.target == target, canaries.c.item_id.is_not(None))
    return frozenset(conn.execute(query).scalars())


def start(
    conn: Connection,
    *,
    target: str,
    environment: str,
    run_key: str | None,
    epoch: int,
    document: Document,
    slow_after_s: float,
    started_at: datetime,
) -> int:
    """Stores a canary before anything is uploaded; returns its id."""
    row = {
        "target": target,
        "environment": environment,
        "run_key": run_key,
        "epoch": epoch,
        "name": document.name,
        "marker": document.marker,
        "status": CanaryStatus.RUNNING.value,
        "clean_up": CleanUp.PENDING.value,
        "slow_after_s": slow_after_s,
        "started_at": started_at,
    }
    inserted = conn.execute(insert(canaries).values(**row)).inserted_primary_key
    return int(inserted[0]) if inserted is not None else 0


def interrupt_open(conn: Connection, *, target: str, before_epoch: int, at: datetime) -> None:
    """Ends canaries of earlier epochs that are still open: their process died. Only under the lease."""
    is_open = (canaries.c.target == target, canaries.c.status == CanaryStatus.RUNNING.value)
    query = update(canaries).where(*is_open, canaries.c.epoch < before_epoch)
    conn.execute(query.values(status=CanaryStatus.INTERRUPTED.value, finished_at=at))


def record_upload(conn: Connection, *, canary_id: int, document: Document) -> None:
    """Stores what an answer to the upload gave: from then on the document is known by its id."""
    kept = json.dumps(dict(document.kept), sort_keys=True) if document.kept else None
    values = {"item_id": document.item_id, "kept": kept}
    conn.execute(update(canaries).where(canaries.c.id == canary_id).values(**values))


def record_found(conn: Connection, *, target: str, document: Document) -> None:
    """Stores the id of a document that was found by its name."""
    same = (canaries.c.target == target, canaries.c.name == document.name, canaries.c.item_id.is_(None))
    conn.execute(update(canaries).where(*same).values(item_id=document.item_id))


def record_clean_up(conn: Connection, *, canary_id: int, clean_up: CleanUp, at: datetime) -> None:
    """Stores what became of a document."""
    cleaned_at = None if clean_up is CleanUp.PENDING else at
    values = {"clean_up": clean_up.value, "cleaned_at": cleaned_at}
    conn.execute(update(canaries).where(canaries.c.id == canary_id).values(**values))


def finish(conn: Connection, report: CanaryReport) -> None:
    """Stores how a canary ended."""
    failure = report.failure
    values = {
        "status": report.status.value,
        "finished_at": report.finished_at,
        "slow": report.slow,
        "stage": report.stage and report.stage[:_MAX_CODE],
        "clean_up": report.clean_up.value,
        "cleaned_at": None if report.clean_up is CleanUp.PENDING else report.finished_at,
        **{f"{step.value}_s": report.durations_s.get(step) for step in Step},
        **_failure_columns(failure),
    }
    conn.execute(update(canaries).where(canaries.c.id == report.id).values(**values))


def _failure_columns(failure: StepFailure | None) -> dict[str, object]:
    if failure is None:
        return {}
    return {
        "failed_step": failure.step.value,
        "code": failure.code[:_MAX_CODE],
        "reason": failure.reason[:_MAX_REASON],
        "http_status": failure.http_status,
        "request_id": failure.request_id and failure.request_id[:_MAX_CODE],
    }


def leftovers(conn: Connection, *, target: str, limit: int) -> list[Leftover]:
    """Ended canaries of a target whose documents may still be there, oldest first."""
    query = select(canaries.c.id, canaries.c.name, canaries.c.marker, canaries.c.item_id, canaries.c.kept,
                   canaries.c.started_at)  # fmt: skip
    rows = conn.execute(query.where(canaries.c.target == target, *_is_leftover()).order_by(canaries.c.id).limit(limit))
    return [
        Leftover(
            id=row.id,
            document=Document(
                name=row.name, marker=row.marker, item_id=row.item_id, kept=json.loads(row.kept) if row.kept else {}
            ),
            started_at=row.started_at,
        )
        for row in rows
    ]


def count_leftovers(conn: Connection, *, target: str) -> int:
    """How many documents of ended canaries may still be there."""
    return _count_leftovers(conn, [target]).get(target, 0)


def _count_leftovers(conn: Connection, targets: Sequence[str]) -> dict[str, int]:
    """By target, where there are any."""
    query = select(canaries.c.target, func.count().label("number"))
    query = query.where(canaries.c.target.in_(targets), *_is_leftover()).group_by(canaries.c.target)
    return {row.target: row.number for row in conn.execute(query)}


def _is_leftover() -> tuple[ColumnElement[bool], ...]:
    """Ended, and its document may still be there; by the text of the partial index."""
    pending: ColumnElement[bool] = text(CANARY_IS_PENDING)  # type: ignore[assignment]  # a condition as it is written
    return pending, canaries.c.status != CanaryStatus.RUNNING.value


@dataclass(frozen=True, slots=True, kw_only=True)
class LastCanary:
    """The newest canary of a target that shows something."""

    ended_at: datetime | None
    succeeded: bool
    last_success_at: datetime | None
    """When the newest one ended in which every step worked; None: there is none."""
    durations_s: Mapping[Step, float]
    leftovers: int


def last_canaries(conn: Connection, *, targets: Sequence[str]) -> dict[str, LastCanary]:
    """The newest canaries of these targets, without those that have none; one index seek per target and value."""
    newest = {
        status: select(func.max(canaries.c.id))
        .where(canaries.c.target == TARGETS.c.target, canaries.c.status == status.value)
        .correlate(TARGETS.table)
        .scalar_subquery()
        for status in _SHOWN
    }
    wanted = TARGETS.of(conn, [(each,) for each in targets])
    chosen = conn.execute(select(TARGETS.c.target, *newest.values()), wanted).all()
    ids = {number for _, *each in chosen for number in each if number is not None}
    if not ids:
        return {}
    stored = {
        row.id: row for chunk in in_chunks(sorted(ids))
        for row in conn.execute(select(canaries).where(canaries.c.id.in_(chunk)))
    }  # fmt: skip
    leftovers = _count_leftovers(conn, targets)
    found: dict[str, LastCanary] = {}
    for target, success_id, failure_id in chosen:
        success, failure = stored.get(success_id), stored.get(failure_id)
        last = max((row for row in (success, failure) if row is not None), key=lambda row: row.id, default=None)
        if last is not None:
            found[target] = LastCanary(
                ended_at=last.finished_at,
                succeeded=last.status == CanaryStatus.SUCCEEDED.value,
                last_success_at=success.finished_at if success is not None else None,
                durations_s=_durations(last),
                leftovers=leftovers.get(target, 0),
            )
    return found


_SHOWN = (CanaryStatus.SUCCEEDED, CanaryStatus.FAILED)
"""Statuses that say something about the API."""


def _durations(row: Any) -> dict[Step, float]:  # noqa: ANN401  # a row
    durations = {step: getattr(row, f"{step.value}_s") for step in Step}
    return {step: seconds for step, seconds in durations.items() if seconds is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySummary:
    """The canaries of a target over a period."""

    total: int
    """Without those that were interrupted."""
    succeeded: int
    slow: int
    failed_steps: Mapping[str, int]
    """Failed ones by step, most frequent first."""
    index_p50_s: float | None
    index_p95_s: float | None
    last: LastCanary | None
    last_failure: str | None
    """Step, code and reason of the newest that failed in the period."""


def summaries(
    conn: Connection, *, targets: Sequence[str], since: datetime, until: datetime
) -> dict[str, CanarySummary]:
    """By target the canaries that ended in a period (`since` ≤ end < `until`); without targets that never had one."""
    last = last_canaries(conn, targets=targets)
    if not last:
        return {}
    wanted = TARGETS.of(conn, [(each,) for each in last])
    within = (canaries.c.finished_at >= since, canaries.c.finished_at < until)
    of_targets = (TARGETS.table, canaries, canaries.c.target == TARGETS.c.target)
    shown = canaries.c.status.in_([each.value for each in _SHOWN])
    counted = select(canaries.c.target, canaries.c.failed_step, func.count(), func.sum(cast(canaries.c.slow, Integer)))
    counted = counted.join_from(*of_targets).where(*within, shown).group_by(canaries.c.target, canaries.c.failed_step)
    counts = defaultdict[str, list[tuple[str | None, int, int]]](list)
    for target, step, number, slow in conn.execute(counted, wanted):
        counts[target].append((step, number, slow or 0))
    times = select(canaries.c.target, canaries.c.index_s).join_from(*of_targets)
    times = times.where(*within, canaries.c.index_s.is_not(None)).order_by(canaries.c.index_s)
    seconds = defaultdict[str, list[float]](list)
    for target, index_s in conn.execute(times, wanted):
        seconds[target].append(index_s)
    failed = select(canaries.c.target, canaries.c.failed_step, canaries.c.code, canaries.c.reason)
    failed = failed.join_from(*of_targets).where(*within, canaries.c.status == CanaryStatus.FAILED.value)
    failures = {}
    for target, step, code, reason in conn.execute(failed.order_by(canaries.c.finished_at), wanted):
        failures[target] = f"{step} ({code}): {reason}"
    return {
        target: _summary(counts[target], seconds[target], each, failures.get(target)) for target, each in last.items()
    }


def _summary(
    counts: Sequence[tuple[str | None, int, int]],
    ascending_s: Sequence[float],
    last: LastCanary,
    last_failure: str | None,
) -> CanarySummary:
    steps = sorted(((step, number) for step, number, _ in counts if step), key=lambda each: (-each[1], each[0]))
    total = sum(number for _, number, _ in counts)
    return CanarySummary(
        total=total,
        succeeded=total - sum(number for _, number in steps),
        slow=sum(slow for *_, slow in counts),
        failed_steps=dict(steps),
        index_p50_s=_percentile(ascending_s, 0.5),
        index_p95_s=_percentile(ascending_s, 0.95),
        last=last,
        last_failure=last_failure,
    )


def _percentile(ascending: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None
