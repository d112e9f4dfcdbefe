"""The tables of shared runs: planning them, beginning and storing shares, and closing. PostgreSQL only.

Functions with a connection work inside the caller's transaction, and all times are by the clock of leases. Who writes
for a share verifies the run's epoch (`leases.verify_shared`) and the attempt of the share in the same transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    Select,
    Text,
    TextClause,
    and_,
    cast,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    union_all,
    update,
)

from monitor.database.bulk import id_set, ids_of
from monitor.database.fleet_tables import SHARED_RUN_IS_OPEN, run_shares, shared_runs
from monitor.database.retry import read_page
from monitor.database.tables import ITEM_IS_DUE, ITEM_IS_UNVERIFIED, active, items, runs
from monitor.database.tables import leases as lease_rows
from monitor.errors import LeaseLostError
from monitor.fleet.shares import DueRange, PlannedShare, ShareClaim, ShareProgress, ShareState, claim, is_over
from monitor.model import Cause, ItemState

_OPEN, _CLOSED = "open", "closed"


PAGE_ITEMS = 500_000
"""Due items that one statement cuts into ranges, about: some seconds of work."""


def due_ranges(
    engine: Engine,
    *,
    target: str,
    run_id: int,
    recheck_ids: Sequence[str],
    size: int,
    expected: int,
    page_items: int = PAGE_ITEMS,
) -> list[DueRange]:
    """The items that a run has not asked about yet, in ranges of at most `size` (> 0), and of almost equal size if as
    many are due as `expected`.

    Those that are not completed, those that are unverified, and the completed ones of `recheck_ids`. Up to `page_items`
    are cut by one statement, which finds a few among many completed ones by their indexes; of more, each page of ids
    has its own short transaction.
    """
    even = max(1, -(-expected // max(1, -(-expected // size))))  # of as few shares as possible, rounded up
    per_page = max(1, page_items // even)
    at_most = per_page * even if expected > page_items else None
    recheck, after = id_set(engine, recheck_ids), None
    ranges: list[DueRange] = []
    while True:
        query = _page_of_ranges(target, run_id, size=even, after=after, at_most=at_most)
        rows = read_page(engine, query.params(recheck=recheck))
        ranges += (
            DueRange(
                first_id=row.first_id,
                items=row.items,
                oldest_run_id=row.oldest,
                recheck_ids=tuple(sorted(json.loads(row.again or "[]"))),
            )
            for row in rows
        )
        if at_most is None or sum(row.items for row in rows) < at_most:
            return ranges
        after = rows[-1].last_id


def _page_of_ranges(target: str, run_id: int, *, size: int, after: str | None, at_most: int | None) -> Select[Any]:
    """Ranges of `size` items, of the next items behind `after`; ids are compared and ordered by the database alone."""
    due = _due_items(target, run_id, after, at_most).subquery("due")
    page = select(due).order_by(due.c.item_id).limit(at_most).subquery("page")
    place = func.row_number().over(order_by=page.c.item_id) - 1
    numbered = select(page, (place // size).label("number")).subquery("numbered")
    columns: list[ColumnElement[Any]] = [
        func.min(numbered.c.item_id).label("first_id"),
        func.max(numbered.c.item_id).label("last_id"),
        func.count().label("items"),
        func.min(numbered.c.asked_run_id).label("oldest"),
        cast(func.json_agg(numbered.c.item_id).filter(numbered.c.recheck), Text).label("again"),
    ]
    return select(*columns).group_by(numbered.c.number).order_by(numbered.c.number)


def _due_items(target: str, run_id: int, after: str | None, at_most: int | None) -> CompoundSelect[Any]:
    """Each part has an index: one condition for all of them would read the completed items, too, of any number."""
    was_completed = func.coalesce(items.c.known_state, "") == ItemState.COMPLETED.value

    def part(*conditions: ColumnElement[bool] | TextClause, recheck: bool = False) -> Select[Any]:
        columns = items.c.item_id, items.c.asked_run_id, literal(recheck).label("recheck")
        mine = items.c.target == target, items.c.asked_run_id < run_id
        found = select(*columns).where(*mine, *conditions)
        if after is not None:
            found = found.where(items.c.item_id > after)
        return found if at_most is None else select(found.order_by(items.c.item_id).limit(at_most).subquery())

    named = items.c.item_id.in_(ids_of("recheck"))
    return union_all(
        part(text(ITEM_IS_DUE)),
        part(text(ITEM_IS_UNVERIFIED), was_completed, *active()),
        part(named, was_completed, items.c.unverified_runs == 0, *active(), recheck=True),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRun:
    """A run that is shared."""

    run_id: int
    target: str
    epoch: int
    is_open: bool
    deadline_at: datetime
    sync: dict[str, Any]
    plan: dict[str, Any]
    checked: dict[str, Any]
    """The planner's own report, as JSON."""
    stopped_by: Cause | None
    started_at: datetime
    """By the clock of runs."""


def add_run(conn: Connection, *, run: SharedRun, shares: Sequence[PlannedShare], planned_at: datetime) -> None:
    """Stores a run that is shared from now on, with its shares."""
    row = {
        "run_id": run.run_id,
        "target": run.target,
        "epoch": run.epoch,
        "state": _OPEN,
        "planned_at": planned_at,
        "deadline_at": run.deadline_at,
        "sync": run.sync,
        "plan": run.plan,
        "checked": run.checked,
    }
    conn.execute(insert(shared_runs).values(row))
    rows = [
        {
            "run_id": run.run_id,
            "target": run.target,
            "state": ShareState.WAITING.value,
            "number": each.number,
            "first_id": each.first_id,
            "before_id": each.before_id,
            "items": each.items,
            "recheck_ids": list(each.recheck_ids),
            "priority": each.priority,
            "seen_at": planned_at,
        }
        for each in shares
    ]
    if rows:
        conn.execute(insert(run_shares), rows)


def is_shared(conn: Connection, *, run_id: int) -> bool:
    """Whether a run was stored by `add_run`."""
    return conn.execute(select(shared_runs.c.run_id).where(shared_runs.c.run_id == run_id)).first() is not None


def load_run(conn: Connection, *, run_id: int) -> SharedRun | None:
    """A shared run; None if there is none."""
    query = select(shared_runs, runs.c.started_at).join(runs, runs.c.id == shared_runs.c.run_id)
    row = conn.execute(query.where(shared_runs.c.run_id == run_id)).mappings().first()
    if row is None:
        return None
    return SharedRun(
        run_id=row["run_id"],
        target=row["target"],
        epoch=row["epoch"],
        is_open=row["state"] == _OPEN,
        deadline_at=row["deadline_at"],
        sync=row["sync"],
        plan=row["plan"],
        checked=row["checked"],
        stopped_by=_cause(row["stopped_by"]),
        started_at=row["started_at"],
    )


def _cause(name: str | None) -> Cause | None:
    return None if name is None else Cause(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunShare:
    """One attempt at a share."""

    run_id: int
    number: int
    attempt: int
    """The fencing token: a later attempt has a higher one."""
    first_id: str
    before_id: str | None
    items: int
    recheck_ids: tuple[str, ...]
    priority: int
    checked: dict[str, Any] | None
    """The report of earlier attempts, as JSON; None: there was none, or it stored nothing."""


def begin(
    conn: Connection, *, run: SharedRun, number: int, worker: str, now: datetime, stalled_after: timedelta
) -> BegunShare | ShareClaim:
    """Begins a share that is free, or whose worker is silent; otherwise says why not. Verify the epoch first."""
    which = run_shares.c.run_id == run.run_id, run_shares.c.number == number
    columns = (shared_runs.c.stopped_by, shared_runs.c.state.label("run_state"))
    query = select(run_shares, *columns).join(shared_runs, shared_runs.c.run_id == run_shares.c.run_id)
    row = conn.execute(query.where(*which).with_for_update(of=run_shares)).mappings().one()
    over = row["run_state"] != _OPEN or is_over(
        stopped=row["stopped_by"] is not None, deadline_at=run.deadline_at, now=now
    )
    found = claim(_progress(row), over=over, now=now, stalled_after=stalled_after)
    if found not in {ShareClaim.FREE, ShareClaim.TAKEN_OVER}:
        return found
    begun = {
        "state": ShareState.RUNNING.value,
        "attempt": row["attempt"] + 1,
        "worker": worker,
        "begun_at": now,
        "seen_at": now,
    }
    conn.execute(update(run_shares).where(*which).values(begun))
    return BegunShare(
        run_id=run.run_id,
        number=number,
        attempt=row["attempt"] + 1,
        first_id=row["first_id"],
        before_id=row["before_id"],
        items=row["items"],
        recheck_ids=tuple(row["recheck_ids"]),
        priority=row["priority"],
        checked=row["checked"],
    )


def _progress(row: Any) -> ShareProgress:  # noqa: ANN401  # a row, or its mapping
    return ShareProgress(state=ShareState(row["state"]), seen_at=row["seen_at"])


def _of_attempt(share: BegunShare) -> tuple[Any, ...]:
    return (
        run_shares.c.run_id == share.run_id,
        run_shares.c.number == share.number,
        run_shares.c.attempt == share.attempt,
        run_shares.c.state == ShareState.RUNNING.value,
    )


def _lost(share: BegunShare) -> LeaseLostError:
    return LeaseLostError(
        f"share {share.number} of run {share.run_id}: another worker took it over, or the run was closed; results not "
        "yet stored are dropped"
    )


def keep_report(conn: Connection, *, share: BegunShare, checked: dict[str, Any]) -> None:
    """Stores the report so far, with the outcomes, and keeps others from the share until the transaction ends.

    Raises LeaseLostError if another attempt was begun, or the share was ended.
    """
    if conn.execute(update(run_shares).where(*_of_attempt(share)).values(checked=checked)).rowcount != 1:
        raise _lost(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeen:
    """What the attempts at the shares of a run must know of it."""

    stopped_by: Cause | None
    lease_ends_at: datetime | None


def touch(conn: Connection, *, share: BegunShare, target: str, now: datetime) -> RunSeen:
    """Shows that an attempt goes on. Raises LeaseLostError if another was begun, or the share was ended."""
    stopped_by = select(shared_runs.c.stopped_by).where(shared_runs.c.run_id == share.run_id).scalar_subquery()
    ends_at = select(lease_rows.c.expires_at).where(lease_rows.c.target == target).scalar_subquery()
    touched = update(run_shares).where(*_of_attempt(share)).values(seen_at=now)
    row = conn.execute(touched.returning(stopped_by.label("stopped_by"), ends_at.label("ends_at"))).first()
    if row is None:
        raise _lost(share)
    return RunSeen(stopped_by=_cause(row.stopped_by), lease_ends_at=row.ends_at)


def end(conn: Connection, *, share: BegunShare, checked: dict[str, Any], given_back: bool, now: datetime) -> None:
    """Ends an attempt: the share is done, or waits for another. Raises LeaseLostError as `keep_report`."""
    state = ShareState.WAITING if given_back else ShareState.DONE
    values = {"state": state.value, "checked": checked, "seen_at": now, "ended_at": None if given_back else now}
    if conn.execute(update(run_shares).where(*_of_attempt(share)).values(values)).rowcount != 1:
        raise _lost(share)


def stop(conn: Connection, *, run_id: int, cause: Cause) -> None:
    """Notes that a cause stopped the target, for all shares of the run; the first one counts."""
    still = shared_runs.c.run_id == run_id, shared_runs.c.stopped_by.is_(None), shared_runs.c.state == _OPEN
    conn.execute(update(shared_runs).where(*still).values(stopped_by=cause.value))


def progress(conn: Connection, *, run_id: int) -> list[ShareProgress]:
    """The shares of a run."""
    query = select(run_shares.c.state, run_shares.c.seen_at).where(run_shares.c.run_id == run_id)
    return [_progress(row) for row in conn.execute(query).mappings()]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedShare:
    """A share that waits, and for which a job is to be queued."""

    run_id: int
    target: str
    number: int
    priority: int
    worker: str | None = None
    """The last one."""


_QUEUED = tuple(run_shares.c[name] for name in ("run_id", "target", "number", "priority", "worker"))


def waiting(conn: Connection, *, run_id: int) -> list[QueuedShare]:
    """The shares of a run that wait, those that come first first."""
    which = run_shares.c.run_id == run_id, run_shares.c.state == ShareState.WAITING.value
    query = select(*_QUEUED).where(*which).order_by(run_shares.c.priority.desc())
    return [QueuedShare(**row) for row in conn.execute(query).mappings()]


def claim_unqueued(conn: Connection, *, run_id: int, now: datetime, stalled_after: timedelta) -> list[QueuedShare]:
    """The shares of a run that wait, if nobody looked for their jobs for a while; only one process is given them."""
    found = waiting(conn, run_id=run_id)
    if not found:
        return []
    first = run_shares.c.run_id == run_id, run_shares.c.number == found[0].number
    unseen = run_shares.c.state == ShareState.WAITING.value, run_shares.c.seen_at <= now - stalled_after
    return found if conn.execute(update(run_shares).where(*first, *unseen).values(seen_at=now)).rowcount else []


def free_silent(conn: Connection, *, now: datetime, stalled_after: timedelta) -> list[QueuedShare]:
    """Makes the shares of open runs wait whose workers are silent; what these still write is fenced off."""
    is_open = select(shared_runs.c.run_id).where(text(SHARED_RUN_IS_OPEN))
    silent = run_shares.c.state == ShareState.RUNNING.value, run_shares.c.seen_at <= now - stalled_after
    which = select(run_shares.c.run_id, run_shares.c.number).where(run_shares.c.run_id.in_(is_open), *silent)
    # one that is writing now is not silent; and supervisors must not wait for each other
    locked = which.with_for_update(skip_locked=True, of=run_shares).cte("locked")
    these = tuple_(run_shares.c.run_id, run_shares.c.number).in_(select(locked.c.run_id, locked.c.number))
    freed = update(run_shares).where(these, *silent).values(state=ShareState.WAITING.value, seen_at=now)
    return [QueuedShare(**row) for row in conn.execute(freed.returning(*_QUEUED)).mappings()]


def seal(conn: Connection, *, run_id: int) -> None:
    """Ends all shares of a run: no attempt writes any more. Waits for those that are writing now."""
    not_ended = run_shares.c.state.in_((ShareState.WAITING.value, ShareState.RUNNING.value))
    which = select(run_shares.c.run_id, run_shares.c.number).where(run_shares.c.run_id == run_id, not_ended)
    # locked in one order: two closers must not wait for each other
    locked = which.order_by(run_shares.c.number).with_for_update().cte("locked")
    these = tuple_(run_shares.c.run_id, run_shares.c.number).in_(select(locked.c.run_id, locked.c.number))
    conn.execute(update(run_shares).where(these, not_ended).values(state=ShareState.CUT.value))


def reports(conn: Connection, *, run_id: int) -> list[tuple[ShareState, dict[str, Any] | None]]:
    """What the shares of a run found out, as JSON, and how they ended."""
    query = select(run_shares.c.state, run_shares.c.checked).where(run_shares.c.run_id == run_id)
    return [(ShareState(state), checked) for state, checked in conn.execute(query.order_by(run_shares.c.number))]


def recheck_ids(conn: Connection, *, run_id: int) -> list[str]:
    """The completed items that the shares of a run were to check again."""
    query = select(run_shares.c.recheck_ids).where(run_shares.c.run_id == run_id).order_by(run_shares.c.number)
    return [item_id for found in conn.execute(query).scalars() for item_id in found]


def close(conn: Connection, *, run_id: int, now: datetime) -> None:
    """Notes that a run is closed, or was lost. Its shares keep their figures, and no report. `seal` comes before."""
    which = shared_runs.c.run_id == run_id, shared_runs.c.state == _OPEN
    conn.execute(update(shared_runs).where(*which).values(state=_CLOSED, closed_at=now))
    conn.execute(update(run_shares).where(run_shares.c.run_id == run_id).values(checked=None, recheck_ids=[]))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that is open, as the supervisor sees it."""

    run_id: int
    target: str
    epoch: int
    deadline_at: datetime
    stopped: bool
    holds_lease: bool
    """False: another run of the target began since, or the lease was released."""
    lease_ends_at: datetime | None


def open_runs(conn: Connection) -> list[OpenRun]:
    """All open runs."""
    return [OpenRun(**row) for row in conn.execute(_open_runs().order_by(shared_runs.c.run_id)).mappings()]


def open_run_of(conn: Connection, *, target: str, run_key: str) -> OpenRun | None:
    """The open run of a target with this run key; None if there is none."""
    query = _open_runs().join(runs, runs.c.id == shared_runs.c.run_id)
    row = conn.execute(query.where(shared_runs.c.target == target, runs.c.run_key == run_key)).mappings().first()
    return None if row is None else OpenRun(**row)


def _open_runs() -> Select[Any]:
    columns = (shared_runs.c.run_id, shared_runs.c.target, shared_runs.c.epoch, shared_runs.c.deadline_at)
    held = and_(lease_rows.c.epoch == shared_runs.c.epoch, lease_rows.c.holder.is_not(None))
    query = select(
        *columns,
        shared_runs.c.stopped_by.is_not(None).label("stopped"),
        func.coalesce(held, literal(False)).label("holds_lease"),  # noqa: FBT003  # a literal
        lease_rows.c.expires_at.label("lease_ends_at"),
    ).outerjoin(lease_rows, lease_rows.c.target == shared_runs.c.target)
    return query.where(text(f"shared_runs.{SHARED_RUN_IS_OPEN}"))
