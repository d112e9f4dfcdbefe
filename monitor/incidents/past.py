"""Past incidents: what the recorded events say of them, and how a replay of the same time differs. Pure.

A recorded incident and a replayed one have the same form, so that equal histories are equal values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from monitor.model import Cause, Incident, IncidentKey, IncidentState, Severity
from monitor.notifications.messages import MessageKind

_OPENINGS = frozenset({"opened", "reopened"})
_MESSAGE_KINDS: Mapping[str, MessageKind] = {
    "opened": MessageKind.OPENED,
    "reopened": MessageKind.OPENED,
    "notified": MessageKind.OPENED,
    "updated": MessageKind.UPDATED,
    "reminded": MessageKind.REMINDER,
    "acknowledged": MessageKind.ACKNOWLEDGED,
    "resolved": MessageKind.RESOLVED,
}
"""Events that send, and what they send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """One row of `incident_events`, as far as a replay needs it."""

    key: IncidentKey
    """Of its incident."""
    run_id: int | None
    """None: a person or a delivery, between two runs."""
    at: datetime
    kind: str
    count: int = 0
    """Items that joined or left."""
    channels: tuple[str, ...] = ()
    silence_id: int | None = None
    severity: Severity | None = None
    """Of its incident, as it is now."""
    first_evidence_at: datetime | None = None
    """Of its incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMessage:
    """What an incident sent at one moment: one notification to each channel."""

    at: datetime
    kind: MessageKind
    channels: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class PastIncident:
    """One incident within a period, recorded or replayed."""

    target: str
    cause: Cause
    group: str
    severity: Severity
    opened_at: datetime
    first_evidence_at: datetime
    id: int | None = field(default=None, compare=False)
    """Of the recorded incident, else None."""
    before: bool = False
    """It was open when the period began."""
    reopened: list[datetime] = field(default_factory=list)
    resolved_at: datetime | None = None
    acknowledged: int = 0
    messages: list[PastMessage] = field(default_factory=list)
    """Within the period."""

    @classmethod
    def of(cls, incident: Incident, *, before: bool = False) -> Self:
        """As the incident is when it opens, or when the period begins (`before`)."""
        return cls(
            target=incident.target,
            cause=incident.cause,
            group=incident.group,
            severity=incident.severity,
            opened_at=incident.opened_at,
            first_evidence_at=incident.first_evidence_at,
            before=before,
        )

    @property
    def subject(self) -> tuple[str, IncidentKey]:
        """Target and key: at most one incident of it is open at a time."""
        return self.target, (self.cause, self.group)

    @property
    def notifications(self) -> int:
        """Messages times channels, before delivery merged any."""
        return sum(len(message.channels) for message in self.messages)

    def send(self, at: datetime, kind: MessageKind, channels: tuple[str, ...]) -> None:
        """Adds a message, unless it goes nowhere: an opening that is silenced, and the end of such an incident."""
        if channels:
            self.messages.append(PastMessage(at=at, kind=kind, channels=channels))


@dataclass(frozen=True, slots=True, kw_only=True)
class StateThen:
    """An incident at the beginning of a period."""

    incident: Incident
    members: int
    """Items; always 0 for a cause that is not about items."""


def state_at(incident: Incident, events: Iterable[RecordedEvent], moment: datetime) -> StateThen:
    """An incident as it was at a moment, from the events before that, oldest first; `incident` is as it is now.

    The time of the last evidence is not in the events: `last_evidence_at` stays as it is now.
    """
    then = replace(incident, silence_id=None, unnotified_count=0, last_message_at=None, resolved_at=None, channels=())
    members = 0
    for event in events:
        if event.at >= moment:
            break
        members += event.count if event.kind == "joined" else -event.count if event.kind == "left" else 0
        if event.kind == "resolved":
            members = 0
        then = _after(then, event)
    return StateThen(incident=then, members=max(0, members))


def _after(incident: Incident, event: RecordedEvent) -> Incident:
    match event.kind:
        case "opened" | "reopened" | "notified":
            sent = event.at if event.channels else incident.last_message_at
            known = incident.channels if event.kind == "notified" else ()
            state = incident.state if event.kind == "notified" else IncidentState.OPEN
            channels = tuple(dict.fromkeys((*known, *event.channels)))
            return replace(
                incident, state=state, resolved_at=None, channels=channels, last_message_at=sent, unnotified_count=0,
                silence_id=None,
            )  # fmt: skip
        case "joined":
            return replace(incident, unnotified_count=incident.unnotified_count + event.count)
        case "updated" | "reminded":
            return replace(incident, last_message_at=event.at, unnotified_count=0)
        case "silenced" if not incident.channels:
            return replace(incident, silence_id=event.silence_id)
        case "acknowledged":
            return replace(incident, state=IncidentState.ACKNOWLEDGED)
        case "resolved":
            return replace(incident, state=IncidentState.RESOLVED, resolved_at=event.at, unnotified_count=0)
        case _:
            return incident


def recorded_incident(
    incident: Incident, events: Sequence[RecordedEvent], since: datetime, until: datetime
) -> PastIncident:
    """What an incident did in a period (both ends included), by its events, oldest first."""
    past = PastIncident.of(incident, before=incident.opened_at < since)
    past.id = incident.id
    for event in events:
        if not since <= event.at <= until:
            continue
        past.resolved_at = event.at if event.kind == "resolved" else past.resolved_at
        if event.kind == "reopened":
            past.reopened.append(event.at)
            past.resolved_at = None
        past.acknowledged += event.kind == "acknowledged"
        if event.kind in _MESSAGE_KINDS:
            past.send(event.at, _MESSAGE_KINDS[event.kind], event.channels)
    return past


class Difference(StrEnum):
    """How the replay of an incident differs from what was."""

    SAME = "same"
    MOVED = "same, at other times"
    MESSAGES = "same, with other messages"
    ADDED = "would have opened, did not"
    REMOVED = "opened, would not have"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedIncident:
    """A recorded incident beside its replay; at least one of both."""

    difference: Difference
    actual: PastIncident | None
    replayed: PastIncident | None

    @property
    def either(self) -> PastIncident:
        """The replayed one, else the recorded one."""
        known = self.replayed or self.actual
        if known is None:
            raise ValueError("a comparison has at least one incident")
        return known

    @property
    def opened_later(self) -> timedelta:
        """By how much the replay opens later; negative: earlier; zero unless there are both."""
        if self.actual is None or self.replayed is None:
            return timedelta(0)
        return self.replayed.opened_at - self.actual.opened_at

    @property
    def resolved_later(self) -> timedelta | None:
        """By how much the replay resolves later; None unless both resolve in the period."""
        before = None if self.actual is None else self.actual.resolved_at
        after = None if self.replayed is None else self.replayed.resolved_at
        return None if before is None or after is None else after - before


def compare(actual: Iterable[PastIncident], replayed: Iterable[PastIncident]) -> list[ComparedIncident]:
    """Pairs the incidents of each target, cause and group that were open at the same time, in the order of openings."""
    by_subject: dict[tuple[str, IncidentKey], tuple[list[PastIncident], list[PastIncident]]] = {}
    for side, incidents in enumerate((actual, replayed)):
        for each in incidents:
            by_subject.setdefault(each.subject, ([], []))[side].append(each)
    pairs = [pair for sides in by_subject.values() for pair in _paired(*sides)]
    return sorted(pairs, key=lambda pair: (pair.either.opened_at, pair.either.target, pair.either.cause))


def _paired(actual: Sequence[PastIncident], replayed: Sequence[PastIncident]) -> list[ComparedIncident]:
    """Both in the order of their openings. Of several that overlap, the earliest are a pair."""
    pairs, waiting = [], list(replayed)
    for one in actual:
        other = next((each for each in waiting if _overlap(one, each)), None)
        if other is not None:
            waiting.remove(other)
        pairs.append(ComparedIncident(difference=_difference(one, other), actual=one, replayed=other))
    pairs += [ComparedIncident(difference=Difference.ADDED, actual=None, replayed=each) for each in waiting]
    return pairs


def _overlap(one: PastIncident, other: PastIncident) -> bool:
    return _begins_within(one, other) or _begins_within(other, one)


def _begins_within(one: PastIncident, other: PastIncident) -> bool:
    return other.opened_at <= one.opened_at and (other.resolved_at is None or one.opened_at <= other.resolved_at)


def _difference(actual: PastIncident, replayed: PastIncident | None) -> Difference:
    if replayed is None:
        return Difference.REMOVED
    if actual == replayed:
        return Difference.SAME
    times = [(each.opened_at, each.resolved_at, each.reopened) for each in (actual, replayed)]
    return Difference.MESSAGES if times[0] == times[1] else Difference.MOVED
