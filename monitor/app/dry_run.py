"""Copies what a dry run starts from into its scratch database (ADR 14). The stored database is only read."""

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, insert, or_, select, true

from monitor.app.throttles import copy_limits
from monitor.config import TargetConfig
from monitor.database.engine import reading, writing
from monitor.database.tables import (
    canaries,
    evidence,
    incidents,
    items,
    runs,
    schedules,
    silences,
    snapshots,
    time_to_indexed,
    waits,
)
from monitor.errors import SchemaError, StoreError
from monitor.model import IncidentState, RunStatus

_MAX_RUNS = 5000
"""The newest runs of a target: as many as any rule looks at."""
_MAX_RESOLVED = 1000
"""The newest resolved incidents of a target: evidence soon after its end reopens one."""
_MAX_WAITS = 300
"""The newest waits of a target: as many as `polling_timeouts` reads at most."""
_MAX_CANARIES = 300
"""The newest canaries of a target: more than the rules about them look at."""
_CHUNK = 5000


def copy_state(
    targets: Sequence[TargetConfig], *, source: Engine, destination: Engine, promised: Collection[str] = ()
) -> str | None:
    """Copies the work list, the last runs, the incidents and the learned limits of targets, and all silences.

    Of targets with objectives (`promised`, by name) also the times to indexed.

    Returns why nothing was copied if the source can't be read or has another schema, else None. `destination` is an
    empty database with the current schema.
    """
    try:
        with reading(source) as read, writing(destination) as written:
            for table, where in _selections(read, [target.name for target in targets]):
                _copy(read, written, table, where)
            for name in promised:
                _copy(read, written, time_to_indexed, time_to_indexed.c.target == name)
    except (StoreError, SchemaError) as error:
        return str(error)
    copy_limits(targets, source=source, destination=destination)
    return None


def _selections(conn: Connection, targets: Sequence[str]) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """The tables in an order that keeps foreign keys, with the rows to copy."""
    yield silences, true()
    yield schedules, schedules.c.target.in_(targets)
    for target in targets:
        incident_ids, evidence_ids = _incidents(conn, target)
        finished = and_(runs.c.target == target, runs.c.status != RunStatus.RUNNING.value)
        newest = select(runs.c.id).where(finished).order_by(runs.c.id.desc()).limit(_MAX_RUNS)
        first = min(conn.execute(newest).scalars(), default=0)
        of_incidents = select(evidence.c.run_id).where(evidence.c.id.in_(evidence_ids))
        copied = and_(finished, or_(runs.c.id >= first, runs.c.id.in_(of_incidents)))
        run_ids = select(runs.c.id).where(copied)
        yield runs, copied
        yield snapshots, snapshots.c.run_id.in_(run_ids)
        yield evidence, and_(evidence.c.target == target, evidence.c.run_id.in_(run_ids))
        yield incidents, and_(incidents.c.target == target, incidents.c.id.in_(incident_ids))
        yield items, items.c.target == target
        newest_waits = select(waits.c.id).where(waits.c.target == target).order_by(waits.c.id.desc()).limit(_MAX_WAITS)
        yield waits, waits.c.id.in_(newest_waits)
        ended = select(canaries.c.id).where(canaries.c.target == target).order_by(canaries.c.id.desc())
        yield canaries, canaries.c.id.in_(ended.limit(_MAX_CANARIES))


def _incidents(conn: Connection, target: str) -> tuple[list[int], list[int]]:
    """The ids of a target's open and newest resolved incidents, and of their last evidence."""
    is_open = incidents.c.state != IncidentState.RESOLVED.value
    columns = select(incidents.c.id, incidents.c.evidence_id).where(incidents.c.target == target)
    newest = columns.where(~is_open).order_by(incidents.c.id.desc()).limit(_MAX_RESOLVED)
    rows = [*conn.execute(columns.where(is_open)).all(), *conn.execute(newest).all()]
    return [row.id for row in rows], [row.evidence_id for row in rows if row.evidence_id is not None]


def _copy(source: Connection, destination: Connection, table: Table, where: ColumnElement[bool]) -> None:
    rows = source.execution_options(yield_per=_CHUNK).execute(select(table).where(where)).mappings()
    for chunk in rows.partitions(_CHUNK):
        destination.execute(insert(table), [dict(row) for row in chunk])
