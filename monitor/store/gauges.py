"""What the health endpoints tell of the stored state: how targets, incidents and the outbox stand at this moment.

Every question is answered by lookups in an index: items are not counted, since closing a run stored their numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, ScalarSelect, String, column, func, select, text, values

from monitor.model import ChannelState, IncidentState, Learned, RunStatus, Snapshot
from monitor.store import channels, throttles
from monitor.store.engine import in_fews
from monitor.store.runs import abandoned
from monitor.store.tables import incidents, notifications, runs, snapshots

__all__ = ["Mail", "Standing", "Stored", "read"]

IncidentLabels = tuple[str, str, str]
"""Target, cause and severity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one target stands."""

    last_run_at: datetime | None = None
    """When its newest finished run ended, however it ended; None before the first."""
    last_success_at: datetime | None = None
    """When its newest complete run ended; None before the first."""
    snapshot: Snapshot | None = None
    """Its newest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """How one channel's messages stand."""

    due: int = 0
    oldest_due_at: datetime | None = None
    """Since when the oldest undelivered one waits."""
    dead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The stored state at one moment."""

    targets: Mapping[str, Standing] = field(default_factory=dict)
    incidents: Mapping[IncidentLabels, int] = field(default_factory=dict)
    """How many are not resolved."""
    mail: Mapping[str, Mail] = field(default_factory=dict)
    channels: Mapping[str, ChannelState] = field(default_factory=dict)
    """Those that ever failed."""
    learned: Mapping[str, Learned] = field(default_factory=dict)
    """What is known of the API of a target."""


def read(conn: Connection, *, targets: Sequence[str], keys: Mapping[str, str], limit_s: float) -> Stored:
    """The state of these targets, and of all incidents and messages, in one read transaction.

    Args:
        conn: a connection; what it reads belongs to one moment where the database grants that.
        targets: names.
        keys: under which what was learned of a target's API is stored, by target.
        limit_s: seconds (> 0) that a server may take for one statement; SQLite knows no such limit.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: for whatever the database does.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text(f"SET LOCAL statement_timeout = {int(limit_s * 1000)}"))  # milliseconds
    standings: dict[str, Standing] = {}
    for few in in_fews(targets):
        standings |= _standings(conn, few)
    known = {key: throttles.read(conn, key=key) for key in sorted(set(keys.values()))}
    return Stored(
        targets=standings,
        incidents=_incidents(conn),
        mail=_mail(conn),
        channels=channels.states(conn),
        learned={name: found for name, key in keys.items() if (found := known[key]) is not None},
    )


def _standings(conn: Connection, targets: Sequence[str]) -> dict[str, Standing]:
    """One seek in an index per target and question, however long the history is."""
    names = values(column("name", String), name="wanted").data([(name,) for name in targets]).cte("wanted")
    finished = runs.c.status != RunStatus.RUNNING.value
    chosen = conn.execute(
        select(
            names.c.name,
            _newest(names.c.name, finished, ~abandoned()).label("ended"),
            _newest(names.c.name, runs.c.status == RunStatus.COMPLETE.value).label("complete"),
            _newest(names.c.name, runs.c.id.in_(select(snapshots.c.run_id))).label("counted"),
        )
    ).all()
    ids = {number for _, *numbers in chosen for number in numbers if number is not None}
    ended = _ends(conn, sorted(ids))
    counted = _snapshots(conn, sorted(row.counted for row in chosen if row.counted is not None))
    return {
        row.name: Standing(
            last_run_at=ended.get(row.ended), last_success_at=ended.get(row.complete), snapshot=counted.get(row.counted)
        )
        for row in chosen
    }


def _newest(name: ColumnElement[str], *where: ColumnElement[bool]) -> ScalarSelect[int]:
    newest = select(runs.c.id).where(runs.c.target == name, *where)
    return newest.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(1).scalar_subquery()


def _ends(conn: Connection, ids: Sequence[int]) -> dict[int, datetime]:
    found: dict[int, datetime] = {}
    for few in in_fews(ids):
        query = select(runs.c.id, runs.c.finished_at).where(runs.c.id.in_(few))
        found |= {row.id: row.finished_at for row in conn.execute(query)}
    return found


def _snapshots(conn: Connection, ids: Sequence[int]) -> dict[int, Snapshot]:
    counts = [snapshots.c[each.name] for each in fields(Snapshot)]
    found: dict[int, Snapshot] = {}
    for few in in_fews(ids):
        query = select(snapshots.c.run_id, *counts).where(snapshots.c.run_id.in_(few))
        found |= {row.pop("run_id"): Snapshot(**row) for row in map(dict, conn.execute(query).mappings())}
    return found


def _incidents(conn: Connection) -> dict[IncidentLabels, int]:
    kinds = (incidents.c.target, incidents.c.cause, incidents.c.severity)
    # as the index of unresolved incidents has it, so that it is used however many there are
    unresolved = text(f"state <> '{IncidentState.RESOLVED.value}'")
    query = select(*kinds, func.count()).where(unresolved).group_by(*kinds).order_by(*kinds)
    return {(target, cause, severity): count for target, cause, severity, count in conn.execute(query)}


def _mail(conn: Connection) -> dict[str, Mail]:
    waits_since = func.min(func.coalesce(notifications.c.retried_at, notifications.c.created_at))
    due = select(notifications.c.channel, func.count(), waits_since).where(notifications.c.status == "due")
    dead = select(notifications.c.channel, func.count().label("number")).where(notifications.c.status == "dead")
    given_up = {row.channel: row.number for row in conn.execute(dead.group_by(notifications.c.channel))}
    waiting = {name: (count, since) for name, count, since in conn.execute(due.group_by(notifications.c.channel))}
    return {
        name: Mail(due=count, oldest_due_at=since, dead=given_up.get(name, 0))
        for name in sorted({*waiting, *given_up})
        for count, since in [waiting.get(name, (0, None))]
    }
