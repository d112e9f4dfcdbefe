"""Reads the stored history of targets in run order and replays it through the rules. It decides nothing and only reads.

Runs and their evidence are streamed side by side, so that memory does not grow with the history.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, Select, String, and_, case, cast, func, or_, select, type_coerce

from monitor.database.engine import in_chunks
from monitor.database.lookups import ENDED
from monitor.database.tables import evidence, incident_events, incidents, is_open, items, runs
from monitor.incidents import store as incident_store
from monitor.incidents.decide import REOPEN_WITHIN
from monitor.incidents.past import ComparedIncident, PastIncident, RecordedEvent, compare, recorded_incident, state_at
from monitor.incidents.replay import NOT_REPLAYED, TargetReplay
from monitor.incidents.replay_state import MAX_RUNS, ReplayedEvidence, ReplayedRun, ReplayPlan
from monitor.model import ITEM_CAUSES, Cause, Incident, IncidentState, RunStatus
from monitor.notifications.texts import channel_target

_BATCH = 5_000
_MIN_RUNS_BEFORE = 200
"""Runs before the period that are read at least: twice what a rule may count."""
_CAUSES: Mapping[str, Cause] = {cause.value: cause for cause in Cause}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """What was, beside what would have been."""

    since: datetime
    until: datetime
    runs: int
    evidence: int
    """Rows."""
    first_run_at: datetime | None
    """Of the runs that were read; None: there are none in the period."""
    incidents: Sequence[ComparedIncident]
    not_replayed: Mapping[Cause, int]
    """Recorded incidents of causes that no run is evidence of."""
    people: int
    """Acknowledgements and resolutions by people in the period …"""
    unmatched: int
    """… of which so many met no open incident in the replay."""
    clock_set_back: Collection[str] = ()
    """Targets whose runs did not end in the order of their ids."""


@dataclass(slots=True)
class _Site:
    """One target while its history is read."""

    replay: TargetReplay
    recorded: list[tuple[Incident, list[RecordedEvent]]] = field(default_factory=list)
    by_run: dict[int, list[RecordedEvent]] = field(default_factory=lambda: defaultdict(list))
    between: list[RecordedEvent] = field(default_factory=list)
    """Latest first."""
    newest: Any = None
    """When the last run finished, as the driver gives it."""

    @property
    def target(self) -> str:
        return self.replay.plan.target


def backtest(
    conn: Connection, plans: Sequence[ReplayPlan], *, since: datetime, until: datetime, with_groups: bool = False
) -> Backtest:
    """Replays the runs that finished from `since` to `until` (both included) by the plans, at most one per target.

    What was open when the period began is taken over as it was. `with_groups`: whether any route or silence matches
    groups; only then they are looked up, for the items that evidence names.
    """
    read = partial(_moment, sqlite=conn.dialect.name == "sqlite")
    sites = {
        plan.target: _prepare(conn, replace(plan, moment=read), since=since, until=until, with_groups=with_groups)
        for plan in plans
    }
    counts = _replay(conn, sites, since=since, until=until, with_groups=with_groups)
    recorded = [
        recorded_incident(incident, events, since, until)
        for site in sites.values()
        for incident, events in site.recorded
        if _concerns(incident, events, since)
    ]
    replayed = [each for site in sites.values() for each in site.replay.incidents]
    people = [event for site in sites.values() for event in _by_people(site, since, until)]
    return Backtest(
        since=since,
        until=until,
        incidents=compare(_in_order(each for each in recorded if each.cause not in NOT_REPLAYED), _in_order(replayed)),
        not_replayed=_not_replayed(conn, recorded, since, until),
        people=len(people),
        unmatched=sum(site.replay.unmatched_actions for site in sites.values()),
        **counts,
    )


def _not_replayed(
    conn: Connection, recorded: Iterable[PastIncident], since: datetime, until: datetime
) -> Mapping[Cause, int]:
    """The incidents of the period that no run is evidence of, with those of all channels."""
    found = Counter(each.cause for each in recorded if each.cause in NOT_REPLAYED)
    prefix = channel_target("")
    of_channels = incidents.c.target.startswith(prefix, autoescape=True)
    lasting = or_(incidents.c.resolved_at.is_(None), incidents.c.resolved_at >= since)
    query = select(func.count()).select_from(incidents).where(of_channels, lasting, incidents.c.opened_at <= until)
    channels = conn.execute(query.where(incidents.c.cause == Cause.CHANNEL_FAILING.value)).scalar_one()
    return {**found, Cause.CHANNEL_FAILING: channels} if channels else found


def _in_order(found: Iterable[PastIncident]) -> list[PastIncident]:
    return sorted(found, key=lambda each: each.opened_at)


def _concerns(incident: Incident, events: Sequence[RecordedEvent], since: datetime) -> bool:
    """Whether an incident was open at any time of the period."""
    return incident.state is not IncidentState.RESOLVED or any(event.at >= since for event in events)


def _by_people(site: _Site, since: datetime, until: datetime) -> Iterator[RecordedEvent]:
    for incident, events in site.recorded:
        for event in events:
            acted = event.run_id is None and event.kind in {"acknowledged", "resolved"}
            if acted and since <= event.at <= until and incident.cause not in NOT_REPLAYED:
                yield event


# --- what was


def _prepare(conn: Connection, plan: ReplayPlan, *, since: datetime, until: datetime, with_groups: bool) -> _Site:
    """A target with its recorded incidents, its state when the period began, and the runs before it."""
    site = _Site(TargetReplay(plan))
    lookback = max(REOPEN_WITHIN, *(rule.window for rule in plan.rules.values()))
    found = _recorded(conn, plan.target, resolved_since=since - lookback, until=until)
    site.recorded = found
    for incident, events in found:
        for event in events:
            if since <= event.at <= until and event.run_id is not None:
                site.by_run[event.run_id].append(event)
            elif since <= event.at <= until:
                site.between.append(event)
        if incident.opened_at < since and incident.cause not in NOT_REPLAYED:
            then = state_at(incident, events, since)
            last = _last_evidence(conn, incident, since) or incident.opened_at
            site.replay.begin_with(replace(then, incident=replace(then.incident, last_evidence_at=last)))
    site.between.sort(key=lambda event: event.at, reverse=True)
    _warm_up(conn, site, since, with_groups=with_groups)
    return site


def _recorded(
    conn: Connection, target: str, *, resolved_since: datetime, until: datetime
) -> list[tuple[Incident, list[RecordedEvent]]]:
    """A target's incidents that were not resolved before a time, oldest first, each with its events."""
    ids = select(incidents.c.id).where(incidents.c.target == target)
    wanted = conn.execute(ids.where(*is_open())).scalars().all()
    wanted = [*wanted, *conn.execute(ids.where(incidents.c.resolved_at >= resolved_since)).scalars()]
    found: list[tuple[Incident, list[RecordedEvent]]] = []
    for chunk in in_chunks(sorted(wanted)):
        rows = conn.execute(select(incidents).where(incidents.c.id.in_(chunk)).order_by(incidents.c.id)).mappings()
        by_id = {row["id"]: incident_store.incident_from_row(row, None) for row in rows if row["opened_at"] <= until}
        events = _events(conn, by_id)
        found += [(incident, events[incident.id]) for incident in by_id.values()]
    return found


def _events(conn: Connection, by_id: Mapping[int, Incident]) -> Mapping[int, list[RecordedEvent]]:
    table = incident_events.c
    query = select(table.incident_id, table.run_id, table.at, table.kind, table.data)
    found = defaultdict[int, list[RecordedEvent]](list)
    for row in conn.execute(query.where(table.incident_id.in_(list(by_id))).order_by(table.id)):
        silence_id, count = row.data.get("silence_id"), row.data.get("count")
        event = RecordedEvent(
            key=by_id[row.incident_id].key,
            run_id=row.run_id,
            at=row.at,
            kind=row.kind,
            count=count if isinstance(count, int) else 0,
            channels=tuple(row.data.get("channels") or ()),
            silence_id=silence_id if isinstance(silence_id, int) else None,
            severity=by_id[row.incident_id].severity,
            first_evidence_at=by_id[row.incident_id].first_evidence_at,
        )
        found[row.incident_id].append(event)
    return found


def _last_evidence(conn: Connection, incident: Incident, before: datetime) -> datetime | None:
    about = (evidence.c.target == incident.target, evidence.c.cause == incident.cause.value)
    query = select(evidence.c.at).where(*about, evidence.c.group_name == incident.group, evidence.c.at < before)
    newest = query.where(evidence.c.inhibited_by.is_(None)).order_by(evidence.c.at.desc()).limit(1)
    found: datetime | None = conn.execute(newest).scalar()
    return found


def _warm_up(conn: Connection, site: _Site, since: datetime, *, with_groups: bool) -> None:
    """The runs before the period that a rule may still look at."""
    window = max(rule.window for rule in site.replay.plan.rules.values())
    before = _runs().where(runs.c.target == site.target, runs.c.started_at < since, runs.c.finished_at < since)
    newest = before.order_by(runs.c.started_at.desc())
    inside = newest.where(runs.c.finished_at >= since - window, runs.c.started_at >= since - window)
    rows = conn.execute(inside.limit(MAX_RUNS)).all()
    if len(rows) < _MIN_RUNS_BEFORE:
        rows = conn.execute(newest.limit(_MIN_RUNS_BEFORE)).all()
    rows = sorted(rows, key=lambda row: int(row[0]))
    seen: dict[int, list[ReplayedEvidence]] = {}
    for chunk in in_chunks([row[0] for row in rows]):
        found = conn.execute(_evidence().where(evidence.c.run_id.in_(chunk)).order_by(evidence.c.run_id))
        for run_id, pieces in groupby(found, key=lambda row: int(row[0])):
            seen[run_id] = [_piece(conn, row, with_groups=with_groups) for row in pieces]
    for row in rows:
        site.replay.warm_up(row, seen.get(row[0], ()))  # type: ignore[arg-type]  # a row is such a tuple


# --- the period


def _replay(
    conn: Connection, sites: Mapping[str, _Site], *, since: datetime, until: datetime, with_groups: bool
) -> dict[str, Any]:
    """Replays the runs of the period; returns the numbers of the result."""
    first_id = min(filter(None, (_first_run(conn, target, since) for target in sites)), default=_NEVER)
    count, first, back = 0, None, set[str]()
    with closing(_EvidenceStream(conn, first_id, with_groups=with_groups)) as seen:
        for row in _stream_tuples(conn, _period(first_id, since, until, list(sites))):
            site = sites.get(row[1])
            if site is None:
                continue
            if not site.newest:
                moment = site.replay.plan.moment(row[3])
                first = min(first or moment, moment)
            elif row[3] < site.newest:
                back.add(site.target)
            count, site.newest = count + 1, row[3]
            if site.between:
                _before(site, row)
            pieces = seen.of(row[0]) if seen.next_id <= row[0] else ()
            site.replay.run(row, pieces, site.by_run.pop(row[0], ()) if site.by_run else ())
    for site in sites.values():
        while site.between:
            _between(site, site.between.pop())
    return {"runs": count, "evidence": seen.rows, "first_run_at": first, "clock_set_back": sorted(back)}


def _before(site: _Site, row: ReplayedRun) -> None:
    """What happened before a run ended."""
    at = site.replay.plan.moment(row[3])
    while site.between and site.between[-1].at < at:
        _between(site, site.between.pop())


def _between(site: _Site, event: RecordedEvent) -> None:
    if event.key[0] not in NOT_REPLAYED:
        site.replay.between(event.key, event)


class _EvidenceStream:
    """Evidence in the order of runs; runs are asked about in ascending order."""

    def __init__(self, conn: Connection, first_id: int, *, with_groups: bool) -> None:
        query = _evidence().where(evidence.c.run_id >= first_id).order_by(evidence.c.run_id)
        self._source = _stream(conn, query)
        self._groups = groupby(self._source, key=lambda row: int(row[0]))
        self._read = partial(_piece, conn, with_groups=with_groups)
        self.rows = 0
        self._advance()

    def _advance(self) -> None:
        run_id, rows = next(self._groups, (_NEVER, iter(())))
        self.next_id, self._rows = run_id, list(rows)

    def close(self) -> None:
        """Closes the cursor, which evidence after the last run leaves open."""
        self._source.close()

    def of(self, run_id: int) -> Sequence[ReplayedEvidence]:
        while self.next_id < run_id:
            self._advance()
        if self.next_id != run_id:
            return ()
        rows = self._rows
        self.rows += len(rows)
        pieces = [self._read(row) for row in rows]
        self._advance()
        return pieces


_NEVER = 2**63 - 1
"""An id that no run has."""
_crash_key = case(
    (runs.c.status == RunStatus.CRASHED.value, func.coalesce(runs.c.run_key, cast(runs.c.id, String))), else_=None
)


def _runs() -> Select[Any]:
    """The runs that count for any rule, with the columns of `ReplayedRun`."""
    # without SQLAlchemy's conversion, which takes as long as all the rest: few of the times are looked at
    at = type_coerce(runs.c.finished_at, String)
    columns = (runs.c.id, runs.c.target, runs.c.status, at, runs.c.due, runs.c.answered, runs.c.accepted, _crash_key)
    ended = or_(runs.c.status != RunStatus.CRASHED.value, incident_store.ended_unforeseen())
    return select(*columns).where(runs.c.finished_at.is_not(None), runs.c.status.in_(sorted(ENDED)), ended)


def _period(first_id: int, since: datetime, until: datetime, targets: Sequence[str]) -> Select[Any]:
    within = and_(runs.c.id >= first_id, runs.c.finished_at >= since, runs.c.finished_at <= until)
    query = _runs().where(within).order_by(runs.c.id)
    # of several targets all runs are read in one pass over the table
    return query.where(runs.c.target == targets[0]) if len(targets) == 1 else query


def _first_run(conn: Connection, target: str, since: datetime) -> int | None:
    start = incident_store.start_of_runs_ended_since(conn, target, since)
    query = select(runs.c.id).where(runs.c.target == target, runs.c.started_at >= start)
    found: int | None = conn.execute(query.order_by(runs.c.started_at).limit(1)).scalar()
    return found


def _stream(conn: Connection, query: Select[Any]) -> Generator[Any]:
    with conn.execute(query.execution_options(yield_per=_BATCH)) as result:
        for part in result.partitions():
            yield from part


def _stream_tuples(conn: Connection, query: Select[Any]) -> Iterator[Any]:
    """Rows whose values need no conversion; of SQLite the driver's own tuples, which take half the time."""
    if conn.dialect.name != "sqlite":
        yield from _stream(conn, query)
        return
    with conn.execute(query) as result:
        while rows := result.cursor.fetchmany(_BATCH):
            yield from rows


def _moment(value: object, *, sqlite: bool) -> datetime:
    if sqlite:
        return datetime.fromisoformat(f"{value}+00:00")
    if not isinstance(value, datetime):
        raise TypeError("the driver gives times as datetimes")
    return value.astimezone(UTC)


def _evidence() -> Select[Any]:
    table = evidence.c
    inhibited = table.inhibited_by.is_not(None)
    return select(table.run_id, table.target, table.cause, table.group_name, table.count, inhibited, table.sample_ids)


def _piece(conn: Connection, row: Sequence[Any], *, with_groups: bool) -> ReplayedEvidence:
    cause = _CAUSES[row[2]]
    groups = _groups(conn, row[1], row[6]) if with_groups and cause in ITEM_CAUSES and row[6] else ()
    return ReplayedEvidence(cause, row[3], row[4], bool(row[5]), groups)


def _groups(conn: Connection, target: str, ids: Collection[str]) -> tuple[str, ...]:
    """The groups of items as they are now, most frequent first."""
    query = select(items.c.group_name, func.count()).where(items.c.target == target, items.c.item_id.in_(list(ids)))
    query = query.where(items.c.group_name.is_not(None)).group_by(items.c.group_name)
    found: Sequence[Row[Any]] = conn.execute(query.order_by(func.count().desc(), items.c.group_name)).all()
    return tuple(row[0] for row in found)
