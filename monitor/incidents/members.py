"""Which items are in a bad state, and which incident each belongs to.

Level-triggered: an item in a bad state that belongs to no incident is evidence, however it got there, so a run that is
killed between check and close loses nothing. It is called in the closing transaction, and decides nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    not_,
    or_,
    select,
    text,
    true,
    update,
)

from monitor.database.engine import in_chunks
from monitor.database.tables import ITEM_IS_UNVERIFIED, active, in_state, incidents, is_open, items, stuck
from monitor.incidents.evidence import MAX_SAMPLES
from monitor.incidents.rulebook import GroupBy, Rule
from monitor.model import ITEM_CAUSES, WEIGHED_CAUSES, Cause, Evidence, Incident, IncidentKey, IncidentState, ItemState

_MAX_STATUSES = 10
_MAX_STATUS_LENGTH = 60
_stage = func.substr(func.coalesce(items.c.stage, "no status"), 1, _MAX_STATUS_LENGTH)
_code = case((items.c.code.is_(None), ""), else_=literal(" ").concat(items.c.code))
_answer = case(
    (items.c.http_status.is_(None), "no answer"),
    else_=func.substr(cast(items.c.http_status, String).concat(_code), 1, _MAX_STATUS_LENGTH),
)
"""An item's last answer: its HTTP status and code."""
_NO_REASON, _IN_WORDS = "no reason", "a reason in words"
_reason = case(
    (items.c.failure_reason.is_(None), _NO_REASON),
    (items.c.failure_reason.contains(" "), _IN_WORDS),
    else_=items.c.failure_reason,
)
"""The code of a failure. A phrase may quote the document, and evidence goes to channels."""
_BROKEN_DOWN_BY = dict.fromkeys((Cause.ITEMS_REGRESSED, Cause.ITEMS_STUCK, Cause.UNRECOGNISED_STATUS), _stage) | {
    Cause.ITEMS_UNVERIFIED: _answer,
    Cause.ITEMS_FAILED: _reason,
}
"""Causes whose evidence is broken down, and by what."""

_MAX_GROUPS = 20
"""Groups of an incident's members that are named."""
_group = func.coalesce(items.c.group_name, "")
"""An item's group; empty for an item without one."""
_OF_INCIDENTS = items.c.incident_id.in_(bindparam("ids", expanding=True))


class AgeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long an item may take before it is evidence."""

    stuck_after: timedelta
    missing_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The items of one target and their incidents. Of a rule it uses `by`, and `runs` if they are counted per item."""

    target: str
    rules: Mapping[Cause, Rule]
    age_limits: AgeLimits

    # --- evidence

    def evidence(self, conn: Connection, *, now: datetime) -> tuple[Evidence, ...]:
        """Evidence from the items that belong to no incident: by cause, and by group if the rule says so."""
        found: list[Evidence] = []
        for cause in self._causes_seen(conn, now):
            if self._by_group(cause):
                found += self.group_evidence(conn, cause, now=now)
            elif piece := self.target_evidence(conn, cause, now=now):
                found.append(piece)
        return tuple(found)

    def _causes_seen(self, conn: Connection, now: datetime) -> list[Cause]:
        """The causes that have items without an incident, in the order of their ranks."""
        # one pass instead of one per cause, each of which leaves out the items of those before it
        number = case(*((self._in_bad_state(cause, now), n) for n, cause in enumerate(ITEM_CAUSES)))
        of_target = (items.c.target == self.target, _active(), items.c.incident_id.is_(None))
        unhealthy = in_state(*(state for state in ItemState if state is not ItemState.COMPLETED))
        found = conn.execute(select(number).where(*of_target, unhealthy).distinct()).scalars().all()
        return [ITEM_CAUSES[n] for n in sorted(each for each in found if each is not None)]

    def target_evidence(
        self, conn: Connection, cause: Cause, *, now: datetime, samples: int = MAX_SAMPLES
    ) -> Evidence | None:
        """Evidence of one cause on the whole target, or None."""
        where = self._unassigned(cause, now)
        total = conn.execute(select(func.count()).select_from(items).where(where)).scalar_one()
        if not total:
            return None
        query = select(items.c.item_id).where(where).order_by(items.c.item_id).limit(samples)
        ids = tuple(conn.execute(query).scalars())
        piece = Evidence(cause=cause, count=total, sample_ids=ids, breakdown=_by_status(conn, cause, where))
        return _with_answers(conn, self.target, piece)

    def group_evidence(
        self, conn: Connection, cause: Cause, *, now: datetime, samples: int = MAX_SAMPLES
    ) -> tuple[Evidence, ...]:
        """The same as one piece per group, sorted by name; items without a group come first."""
        where = self._unassigned(cause, now)
        totals = conn.execute(select(_group, func.count()).where(where).group_by(_group)).all()
        if not totals:
            return ()
        rank = func.row_number().over(partition_by=_group, order_by=items.c.item_id).label("rank")
        ranked = select(_group.label("name"), items.c.item_id, rank).where(where).subquery()
        ids = defaultdict[str, list[str]](list)
        first = select(ranked.c.name, ranked.c.item_id).where(ranked.c.rank <= samples)
        for name, item_id in conn.execute(first.order_by(ranked.c.name, ranked.c.rank)):
            ids[name].append(item_id)
        by_status = _by_status_per_group(conn, cause, where)
        pieces = (
            Evidence(
                cause=cause, group=name, count=total, sample_ids=tuple(ids[name]), breakdown=by_status.get(name, {})
            )
            for name, total in sorted((name, total) for name, total in totals)
        )
        return tuple(_with_answers(conn, self.target, piece) for piece in pieces)

    def groups(self, conn: Connection, key: IncidentKey, *, now: datetime) -> tuple[str, ...]:
        """The groups of the items that are evidence for a cause and group, most frequent first."""
        cause, group = key
        if self._by_group(cause):
            return (group,) if group else ()
        return tuple(name for name in _by_group(conn, self._unassigned(cause, now)) if name)

    # --- joining and leaving

    def add(self, conn: Connection, piece: Evidence, *, incident_id: int, now: datetime) -> int:
        """Makes the items behind a piece of evidence members of its incident; returns how many."""
        where = self._unassigned(piece.cause, now, piece.group if self._by_group(piece.cause) else None)
        if piece.count == len(piece.sample_ids):
            # All ids are known. Without them each of very many groups would scan the items of all.
            where = and_(where, items.c.item_id.in_(piece.sample_ids))
        return conn.execute(update(items).where(where).values(incident_id=incident_id)).rowcount

    def release(
        self, conn: Connection, current: Iterable[Incident], *, now: datetime, remove_untracked: bool
    ) -> dict[int, int]:
        """Removes members that recovered or, optionally, are no longer tracked; counts them by incident.

        Each member is judged alone, even if the rule now groups differently: an incident that was opened for the whole
        target, or for a group, stays open until its members recover.
        """
        opened = [each for each in current if each.cause in ITEM_CAUSES and each.state is not IncidentState.RESOLVED]
        # One query per cause: of very many groups, few lose members.
        losing = {
            cause: self.incidents_losing_members(conn, cause, now=now, remove_untracked=remove_untracked)
            for cause in {each.cause for each in opened}
        }
        released = {}
        for incident in opened:
            if incident.id in losing[incident.cause]:
                removed = self.remove_recovered(conn, incident, now=now)
                removed += _remove_untracked(conn, incident.id) if remove_untracked else 0
                released[incident.id] = removed
        return released

    def incidents_losing_members(
        self, conn: Connection, cause: Cause, *, now: datetime, remove_untracked: bool
    ) -> frozenset[int]:
        """The ids of the cause's open incidents that `release` would take members from."""
        of_cause = and_(
            incidents.c.id == items.c.incident_id,
            incidents.c.cause == cause.value,
            incidents.c.target == self.target,
            *is_open(),
        )
        stayed = or_(incidents.c.group_name == "", _group == incidents.c.group_name)
        leaving = self._recovered(cause, now, stayed)
        if remove_untracked:
            leaving = or_(leaving, not_(_active()))
        query = select(items.c.incident_id).join(incidents, of_cause).where(items.c.target == self.target, leaving)
        return frozenset(conn.execute(query.distinct()).scalars())

    def remove_recovered(self, conn: Connection, incident: Incident, *, now: datetime) -> int:
        """Removes members that recovered or moved to another group; returns how many.

        An unknown item stays, because nothing is known about its recovery.
        """
        stayed = _group == incident.group if incident.group else true()
        where = and_(items.c.incident_id == incident.id, self._recovered(incident.cause, now, stayed))
        return conn.execute(update(items).where(where).values(incident_id=None)).rowcount

    # --- conditions

    def _by_group(self, cause: Cause) -> bool:
        return self.rules[cause].by is GroupBy.GROUP

    def _in_bad_state(self, cause: Cause, now: datetime) -> ColumnElement[bool]:
        """Items that this cause is about, as far as the newest run could see them; true or false, never null."""
        match cause:
            case Cause.ITEMS_FAILED:
                return in_state(ItemState.FAILED)
            case Cause.ITEMS_MISSING:
                uploaded = func.coalesce(items.c.submitted_at, items.c.first_seen_at)
                expected = or_(items.c.seen_at.is_not(None), uploaded < now - self.age_limits.missing_after)
                return and_(in_state(ItemState.NOT_FOUND), expected)
            case Cause.ITEMS_STUCK:
                return and_(items.c.pending_since.is_not(None), stuck(now - self.age_limits.stuck_after))
            case Cause.ITEMS_INVALID:
                return in_state(ItemState.INVALID)
            case Cause.ITEMS_UNVERIFIED:
                long_enough = and_(text(ITEM_IS_UNVERIFIED), items.c.unverified_runs >= self.rules[cause].runs)
                own = and_(items.c.reason.is_not(None), items.c.reason.in_(sorted(WEIGHED_CAUSES)))
                return and_(in_state(ItemState.UNKNOWN), long_enough, own)
            case Cause.ITEMS_REGRESSED:
                return and_(in_state(ItemState.PENDING), items.c.regressed_at.is_not(None))
            case Cause.UNRECOGNISED_STATUS:
                return and_(in_state(ItemState.PENDING), items.c.recognised.is_(False))
            case _:
                raise ValueError(f"{cause} is not a cause of items")

    def _unassigned(self, cause: Cause, now: datetime, group: str | None = None) -> ColumnElement[bool]:
        """Items for this cause to take; one that fits two causes is the first one's, even before that opens."""
        in_cause = self._in_bad_state(cause, now)
        earlier = (not_(self._in_bad_state(other, now)) for other in ITEM_CAUSES[: ITEM_CAUSES.index(cause)])
        in_group = true() if group is None else _group == group
        return and_(
            items.c.target == self.target, _active(), items.c.incident_id.is_(None), in_cause, *earlier, in_group
        )

    def _recovered(self, cause: Cause, now: datetime, stayed: ColumnElement[bool]) -> ColumnElement[bool]:
        """Tracked items known not to be in the bad state any more, or that left their group."""
        unrecovered = and_(self._in_bad_state(cause, now), stayed)
        return and_(_active(), items.c.state != ItemState.UNKNOWN.value, not_(unrecovered))


def _active() -> ColumnElement[bool]:
    return and_(*active())


def _with_answers(conn: Connection, target: str, piece: Evidence) -> Evidence:
    """Evidence with what the API says of the sample: why items failed, or how it answers for unverified ones."""
    if piece.cause is Cause.ITEMS_FAILED:
        told = select(items.c.failure_message).where(items.c.target == target, items.c.item_id.in_(piece.sample_ids))
        told = told.where(items.c.failure_message.is_not(None)).order_by(items.c.item_id).limit(1)
        return replace(piece, api_message=conn.execute(told).scalar())
    if piece.cause is not Cause.ITEMS_UNVERIFIED:
        return piece
    columns = (items.c.http_status, items.c.code, items.c.request_id, items.c.page)
    query = select(*columns).where(items.c.target == target, items.c.item_id.in_(piece.sample_ids))
    rows = conn.execute(query.order_by(items.c.item_id)).all()
    return replace(
        piece,
        code=next((row.code for row in rows if row.code), None),
        request_ids=tuple(dict.fromkeys(row.request_id for row in rows if row.request_id)),
        page=next((row.page for row in rows if row.page is not None), None),
    )


def _by_status(conn: Connection, cause: Cause, where: ColumnElement[bool]) -> dict[str, int]:
    status = _BROKEN_DOWN_BY.get(cause)
    if status is None:
        return {}
    query = select(status, func.count()).where(where).group_by(status)
    named = {row[0]: row[1] for row in conn.execute(query.order_by(func.count().desc(), status).limit(_MAX_STATUSES))}
    if len(named) == _MAX_STATUSES:
        total = conn.execute(select(func.count()).select_from(items).where(where)).scalar_one()
        named |= _others(cause, total - sum(named.values()))
    return _if_told(named)


def _by_status_per_group(conn: Connection, cause: Cause, where: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    status = _BROKEN_DOWN_BY.get(cause)
    if status is None:
        return {}
    query = select(_group, status, func.count()).where(where).group_by(_group, status)
    found = defaultdict[str, list[tuple[str, int]]](list)
    for name, each, how_many in conn.execute(query.order_by(func.count().desc(), status)):
        found[name].append((each, how_many))
    return {
        name: _if_told(
            dict(rows[:_MAX_STATUSES]) | _others(cause, sum(how_many for _, how_many in rows[_MAX_STATUSES:]))
        )
        for name, rows in found.items()
    }


def _others(cause: Cause, others: int) -> dict[str, int]:
    what = "reasons" if cause is Cause.ITEMS_FAILED else "statuses"
    return {f"other {what}": others} if others else {}


def _if_told(named: dict[str, int]) -> dict[str, int]:
    """Without a single reason there is nothing to break down."""
    return {} if set(named) == {_NO_REASON} else named


def _remove_untracked(conn: Connection, incident_id: int) -> int:
    """Removes members that left the sync log or are ignored; returns how many."""
    where = and_(items.c.incident_id == incident_id, ~_active())
    return conn.execute(update(items).where(where).values(incident_id=None)).rowcount


def remove_all(conn: Connection, *, incident_id: int) -> None:
    """Removes all members of a resolved incident."""
    conn.execute(update(items).where(items.c.incident_id == incident_id).values(incident_id=None))


def counts(conn: Connection, *, target: str) -> dict[int, int]:
    """Members of each incident of a target that has any."""
    assigned = (items.c.target == target, items.c.incident_id.is_not(None))
    query = select(items.c.incident_id, func.count()).where(*assigned).group_by(items.c.incident_id)
    return {row[0]: row[1] for row in conn.execute(query)}


def _by_group(conn: Connection, where: ColumnElement[bool]) -> dict[str, int]:
    query = select(_group, func.count()).where(where).group_by(_group).order_by(func.count().desc(), _group)
    return {row[0]: row[1] for row in conn.execute(query.limit(_MAX_GROUPS))}


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One item of an incident."""

    item_id: str
    group: str | None
    state: ItemState
    known_state: str | None
    stage: str | None
    since: datetime | None
    """Since when it is in its last known state; None before the first answer."""
    failure_reason: str | None = None
    """The provider's code for its failure."""


def listing(conn: Connection, *, incident_id: int, limit: int | None = None, offset: int = 0) -> list[Member]:
    """The members of an incident from the one at `offset`, those longest in their state first; at most `limit` (> 0;
    None: all).
    """
    since = func.coalesce(items.c.pending_since, items.c.since).label("since")
    known = (items.c.known_state, items.c.stage, items.c.failure_reason)
    query = select(items.c.item_id, items.c.group_name, items.c.state, *known, since)
    query = query.where(items.c.incident_id == incident_id).order_by(since.is_(None), since, items.c.item_id)
    return [
        Member(
            item_id=row.item_id,
            group=row.group_name,
            state=ItemState(row.state),
            known_state=row.known_state,
            stage=row.stage,
            failure_reason=row.failure_reason,
            since=row.since,
        )
        for row in conn.execute(query.limit(limit).offset(offset))
    ]


class CurrentMembers(msgspec.Struct, frozen=True, kw_only=True):
    """The present members of one incident."""

    item_ids: tuple[str, ...] = ()
    """The first ones."""
    by_group: Mapping[str, int] = msgspec.field(default_factory=dict)
    """How many are in each group, most frequent first; those without a group under an empty name."""
    by_status: Mapping[str, int] = msgspec.field(default_factory=dict)
    """How many have each raw status, reason or answer: the ten most frequent, the rest as one. Not of all causes."""


def current(conn: Connection, causes: Mapping[int, Cause]) -> dict[int, CurrentMembers]:
    """The present members of incidents, whose causes are given by their ids: as many statements for many as for one."""
    if len(causes) == 1:
        return {number: _members_of(conn, number, cause) for number, cause in causes.items()}
    ids = sorted(causes)
    item_ids = defaultdict[int, list[str]](list)
    for chunk in in_chunks(ids):
        for row in conn.execute(_first_members(), {"ids": chunk}):
            item_ids[row.incident_id].append(row.item_id)
    by_group, by_status = _counted(conn, _group, ids, limit=_MAX_GROUPS), dict[int, dict[str, int]]()
    for each in dict.fromkeys(_BROKEN_DOWN_BY.values()):
        alike = [number for number in ids if _BROKEN_DOWN_BY.get(causes[number]) is each]
        for number, (total, named) in _counted(conn, each, alike, limit=_MAX_STATUSES).items():
            others = _others(causes[number], total - sum(named.values()))
            by_status[number] = _if_told(named | others)
    return {
        number: CurrentMembers(
            item_ids=tuple(item_ids[number]),
            by_group=by_group[number][1] if number in by_group else {},
            by_status=by_status.get(number, {}),
        )
        for number in ids
    }


def _members_of(conn: Connection, number: int, cause: Cause) -> CurrentMembers:
    """The same of one incident, which may have very many: they are read once, and only its first ones are sorted."""
    mine = items.c.incident_id == number
    first = select(items.c.item_id).where(mine).order_by(items.c.item_id).limit(MAX_SAMPLES)
    status = _BROKEN_DOWN_BY.get(cause, literal(""))
    by_group, by_status = Counter[str](), Counter[str]()
    for group, each, count in conn.execute(select(_group, status, func.count()).where(mine).group_by(_group, status)):
        by_group[group] += count
        by_status[each] += count
    named = dict(_most_common(by_status, _MAX_STATUSES))
    others = _others(cause, by_status.total() - sum(named.values()))
    return CurrentMembers(
        item_ids=tuple(conn.scalars(first)),
        by_group=dict(_most_common(by_group, _MAX_GROUPS)),
        by_status=_if_told(named | others) if cause in _BROKEN_DOWN_BY else {},
    )


def _most_common(counts: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:limit]


@cache
def _first_members() -> Select[Any]:
    rank = func.row_number().over(partition_by=items.c.incident_id, order_by=items.c.item_id).label("rank")
    ranked = select(items.c.incident_id, items.c.item_id, rank).where(_OF_INCIDENTS).subquery()
    found = select(ranked.c.incident_id, ranked.c.item_id).where(ranked.c.rank <= MAX_SAMPLES)
    return found.order_by(ranked.c.incident_id, ranked.c.rank)


def _counted(
    conn: Connection, value: ColumnElement[str], ids: Sequence[int], *, limit: int
) -> dict[int, tuple[int, dict[str, int]]]:
    """By incident: how many members it has, and how many of them have each of the `limit` most frequent values."""
    found: dict[int, tuple[int, dict[str, int]]] = {}
    for chunk in in_chunks(ids):
        for row in conn.execute(_most_frequent(value, limit), {"ids": chunk}):
            found.setdefault(row.incident_id, (int(row.total), {}))[1][row.value] = row.number
    return found


@cache
def _most_frequent(value: ColumnElement[str], limit: int) -> Select[Any]:
    columns = (items.c.incident_id, value.label("value"), func.count().label("number"))
    counted = select(*columns).where(_OF_INCIDENTS).group_by(items.c.incident_id, value).subquery()
    order = (counted.c.number.desc(), counted.c.value)
    place = func.row_number().over(partition_by=counted.c.incident_id, order_by=order)
    total = func.sum(counted.c.number).over(partition_by=counted.c.incident_id)
    ranked = select(counted, place.label("place"), total.label("total")).subquery()
    found = select(ranked.c.incident_id, ranked.c.total, ranked.c.value, ranked.c.number)
    return found.where(ranked.c.place <= limit).order_by(ranked.c.incident_id, ranked.c.place)
