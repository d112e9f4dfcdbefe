"""Queries of the table `canaries`. Functions with a connection work inside the caller's transaction."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, cast, func, insert, select, text, update

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
    rows = conn.execute(query.where(*_is_leftover(target)).order_by(canaries.c.id).limit(limit))
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
    query = select(func.count()).select_from(canaries).where(*_is_leftover(target))
    return int(conn.execute(query).scalar_one())


def _is_leftover(target: str) -> tuple[ColumnElement[bool], ...]:
    """Ended, and its document may still be there; by the text of the partial index."""
    pending: ColumnElement[bool] = text(CANARY_IS_PENDING)  # type: ignore[assignment]  # a condition as it is written
    return canaries.c.target == target, pending, canaries.c.status != CanaryStatus.RUNNING.value


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
    found: dict[str, LastCanary] = {}
    for target in targets:
        success, failure = (_newest(conn, target, each) for each in (CanaryStatus.SUCCEEDED, CanaryStatus.FAILED))
        newest = max((row for row in (success, failure) if row is not None), key=lambda row: row.id, default=None)
        if newest is not None:
            found[target] = LastCanary(
                ended_at=newest.finished_at,
                succeeded=newest.status == CanaryStatus.SUCCEEDED.value,
                last_success_at=success.finished_at if success is not None else None,
                durations_s=_durations(newest),
                leftovers=count_leftovers(conn, target=target),
            )
    return found


def _newest(conn: Connection, target: str, status: CanaryStatus) -> Any:  # noqa: ANN401  # a row
    query = select(canaries).where(canaries.c.target == target, canaries.c.status == status.value)
    return conn.execute(query.order_by(canaries.c.id.desc()).limit(1)).first()


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


def summarize(conn: Connection, *, target: str, since: datetime, until: datetime) -> CanarySummary | None:
    """The canaries that ended in a period (`since` ≤ end < `until`); None if the target never had one."""
    last = last_canaries(conn, targets=[target]).get(target)
    if last is None:
        return None
    within = (canaries.c.target == target, canaries.c.finished_at >= since, canaries.c.finished_at < until)
    shown = canaries.c.status.in_((CanaryStatus.SUCCEEDED.value, CanaryStatus.FAILED.value))
    counted = select(canaries.c.failed_step, func.count().label("number"), func.sum(cast(canaries.c.slow, Integer)))
    rows = conn.execute(counted.where(*within, shown).group_by(canaries.c.failed_step)).all()
    failed = sorted(((row[0], row[1]) for row in rows if row[0] is not None), key=lambda each: (-each[1], each[0]))
    total = sum(row[1] for row in rows)
    times = select(canaries.c.index_s).where(*within, canaries.c.index_s.is_not(None)).order_by(canaries.c.index_s)
    seconds = list(conn.execute(times).scalars())
    newest = select(canaries).where(*within, canaries.c.status == CanaryStatus.FAILED.value)
    failure = conn.execute(newest.order_by(canaries.c.finished_at.desc()).limit(1)).first()
    return CanarySummary(
        total=total,
        succeeded=total - sum(number for _, number in failed),
        slow=sum(row[2] or 0 for row in rows),
        failed_steps=dict(failed),
        index_p50_s=_percentile(seconds, 0.5),
        index_p95_s=_percentile(seconds, 0.95),
        last=last,
        last_failure=None if failure is None else f"{failure.failed_step} ({failure.code}): {failure.reason}",
    )


def _percentile(ascending: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)] if ascending else None
