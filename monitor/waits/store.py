"""The rows of waits, and their totals. Functions with a connection work inside the caller's transaction."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, func, insert, or_, select, text, update

from monitor.database.engine import in_chunks
from monitor.database.engine import insert as insert_or
from monitor.database.lookups import TARGETS, looked_up
from monitor.database.tables import WAIT_IS_RUNNING, items, wait_totals, waits
from monitor.model import Cause
from monitor.model.items import NO_PARAMS
from monitor.waits.report import WaitReport
from monitor.waits.rules import WaitResult, bucket_of

ALIVE_FOR = timedelta(seconds=60)
"""How long a row stays alive without renewal, and so after what time a killed wait is found to be killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWait:
    """One wait that ended."""

    id: int
    target: str
    started_at: datetime
    finished_at: datetime
    result: WaitResult
    cause: Cause | None
    timeout_s: float
    duration_s: float
    asked: int
    completed: int
    failed: int
    missing: int
    invalid: int
    pending: int
    unknown: int


class WaitSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The waits of one target that began in a period and ended."""

    by_result: Mapping[WaitResult, int]
    asked: int = 0
    completed: int = 0
    mean_s: float | None = None
    longest_s: float | None = None
    last: StoredWait | None = None

    @property
    def total(self) -> int:
        """How many."""
        return sum(self.by_result.values())


class WaitTotal(msgspec.Struct, frozen=True, kw_only=True):
    """All waits of one target that ever ended so, by their duration."""

    target: str
    result: WaitResult
    le_s: int
    """Upper bound of the duration; 0: longer than the last bound."""
    waits: int
    seconds: float


def begin(
    conn: Connection,
    *,
    target: str,
    environment: str,
    holder: str,
    asked: int,
    timeout: timedelta,
    started_at: datetime,
    now: datetime,
) -> int:
    """Stores that a wait began; returns its id. `now` is the time of leases (see `leases.lease_now`)."""
    row = {
        "target": target,
        "environment": environment,
        "holder": holder,
        "started_at": started_at,
        "alive_until": now + ALIVE_FOR,
        "timeout_s": timeout.total_seconds(),
        "asked": asked,
    }
    new_id: int = conn.execute(insert(waits).returning(waits.c.id), row).scalar_one()
    return new_id


def renew(conn: Connection, *, wait_id: int, now: datetime) -> None:
    """Stores that a wait still goes on."""
    conn.execute(update(waits).where(waits.c.id == wait_id).values(alive_until=now + ALIVE_FOR))


def finish(conn: Connection, *, wait_id: int, report: WaitReport) -> bool:
    """Stores how a wait ended. False: it has an end already, since its process was taken for dead."""
    values = {
        "finished_at": report.finished_at,
        "duration_s": report.duration_s,
        "result": report.result.value,
        "cause": report.cause.value if report.cause else None,
        "requests": report.requests,
        **asdict(report.counts),
    }
    done = conn.execute(update(waits).where(waits.c.id == wait_id, text(WAIT_IS_RUNNING)).values(values))
    if not done.rowcount:
        return False
    _count(conn, target=report.target, result=report.result, duration_s=report.duration_s)
    return True


def any_known(conn: Connection, *, target: str) -> bool:
    """Whether a target has waits, or any target one that is not closed: most have none, and need no further look."""
    return bool(conn.execute(_knowing_any(), {"of_target": target}).scalar())


@cache  # every run executes it
def _knowing_any() -> Select[bool]:
    of_target = select(waits.c.id).where(waits.c.target == bindparam("of_target")).exists()
    still_open = select(waits.c.id).where(text(WAIT_IS_RUNNING)).exists()
    return select(or_(of_target, still_open))


def close_killed(conn: Connection, *, now: datetime) -> int:
    """Closes what killed processes left open, of every target; returns how many. `now` is the time of leases."""
    dead = update(waits).where(text(WAIT_IS_RUNNING), waits.c.alive_until < now)
    closing = dead.values(result=WaitResult.KILLED.value, finished_at=waits.c.alive_until, unknown=waits.c.asked)
    columns = (waits.c.id, waits.c.target, waits.c.started_at, waits.c.alive_until, waits.c.timeout_s)
    rows = conn.execute(closing.returning(*columns)).all()
    for row in rows:
        # when it died is not known: at the earliest just after its last renewal
        lived = max(timedelta(0), row.alive_until - ALIVE_FOR - row.started_at)
        duration_s = min(lived.total_seconds(), row.timeout_s)
        finished_at = row.started_at + timedelta(seconds=duration_s)
        conn.execute(update(waits).where(waits.c.id == row.id).values(duration_s=duration_s, finished_at=finished_at))
        _count(conn, target=row.target, result=WaitResult.KILLED, duration_s=duration_s)
    return len(rows)


def _count(conn: Connection, *, target: str, result: WaitResult, duration_s: float) -> None:
    row = {"target": target, "result": result.value, "le_s": bucket_of(duration_s), "waits": 1, "seconds": duration_s}
    added = insert_or(conn, wait_totals).values(row)
    columns = wait_totals.c
    conn.execute(
        added.on_conflict_do_update(
            index_elements=[columns.target, columns.result, columns.le_s],
            set_={"waits": columns.waits + 1, "seconds": columns.seconds + added.excluded.seconds},
        )
    )


def totals(conn: Connection, *, targets: Sequence[str]) -> list[WaitTotal]:
    """The totals of targets: as many rows as there are results and bounds, whatever the history."""
    found = []
    for chunk in in_chunks(targets):
        query = select(wait_totals).where(wait_totals.c.target.in_(chunk))
        rows = map(dict, conn.execute(query).mappings())
        found += [WaitTotal(**{**row, "result": WaitResult(row["result"])}) for row in rows]
    return found


_STORED = tuple(column for column in waits.c if column.name in StoredWait.__dataclass_fields__)


def newest(conn: Connection, *, target: str, limit: int) -> list[StoredWait]:
    """The newest `limit` (> 0) waits of a target that ended, newest first."""
    ended = select(*_STORED).where(waits.c.target == target, waits.c.result.is_not(None))
    query = ended.order_by(waits.c.started_at.desc(), waits.c.id.desc()).limit(limit)
    return [_stored(dict(row)) for row in conn.execute(query).mappings()]


def summaries(conn: Connection, *, targets: Sequence[str], since: datetime) -> dict[str, WaitSummary]:
    """By target the waits that began since then and ended; without targets that had none."""
    each = looked_up(
        conn.dialect.name, (TARGETS.c.target,), (waits.c.result, waits.c.asked, waits.c.completed, waits.c.duration_s),
        waits.c.target == TARGETS.c.target, waits.c.started_at >= since, waits.c.result.is_not(None),
    ).subquery("each").c  # fmt: skip
    query = select(
        each.target,
        each.result,
        func.count().label("waits"),
        func.sum(each.asked).label("asked"),
        func.sum(each.completed).label("completed"),
        func.sum(each.duration_s).label("seconds"),
        func.max(each.duration_s).label("longest"),
    ).group_by(each.target, each.result)
    wanted = TARGETS.of(conn, [(each,) for each in targets])
    by_target = defaultdict[str, list[Row[Any]]](list)
    for row in conn.execute(query, wanted):
        by_target[row.target].append(row)
    last = _newest(conn, list(by_target)) if by_target else {}
    return {target: _summary(rows, last.get(target)) for target, rows in by_target.items()}


def _newest(conn: Connection, targets: Sequence[str]) -> dict[str, StoredWait]:
    """The newest wait of each target that ended."""
    ended = select(waits.c.id).where(waits.c.target == TARGETS.c.target, waits.c.result.is_not(None))
    newest = ended.order_by(waits.c.started_at.desc(), waits.c.id.desc()).limit(1).correlate(TARGETS.table)
    ids = select(newest.scalar_subquery()).select_from(TARGETS.table)
    query = select(waits.c.target.label("of"), *_STORED).where(waits.c.id.in_(ids))
    rows = conn.execute(query, TARGETS.of(conn, [(each,) for each in targets])).mappings()
    return {row["of"]: _stored({name: row[name] for name in row if name != "of"}) for row in rows}


def _summary(rows: Sequence[Row[Any]], last: StoredWait | None) -> WaitSummary:
    by_result = {WaitResult(row.result): row.waits for row in rows}
    return WaitSummary(
        by_result={result: by_result[result] for result in WaitResult if result in by_result},
        asked=int(sum(row.asked for row in rows)),
        completed=int(sum(row.completed for row in rows)),
        mean_s=sum(row.seconds for row in rows) / sum(by_result.values()),
        longest_s=max(row.longest for row in rows),
        last=last,
    )


def _stored(row: dict[str, Any]) -> StoredWait:
    cause = row.pop("cause")
    return StoredWait(**{**row, "result": WaitResult(row["result"])}, cause=Cause(cause) if cause else None)


class KnownItem(msgspec.Struct, frozen=True, kw_only=True):
    """What runs have stored of an item that a wait is about."""

    seen: bool
    """The API has returned it."""
    submitted_at: datetime | None
    params: Mapping[str, str]


def known_items(conn: Connection, *, target: str, item_ids: Sequence[str]) -> dict[str, KnownItem]:
    """What is known of these items, by id. Reads only their rows."""
    columns = (items.c.item_id, items.c.seen_at, items.c.submitted_at, items.c.params)
    found: dict[str, KnownItem] = {}
    for chunk in in_chunks(item_ids):
        query = select(*columns).where(items.c.target == target, items.c.item_id.in_(chunk))
        for row in conn.execute(query):
            params = json.loads(row.params) if row.params else NO_PARAMS
            found[row.item_id] = KnownItem(seen=row.seen_at is not None, submitted_at=row.submitted_at, params=params)
    return found
