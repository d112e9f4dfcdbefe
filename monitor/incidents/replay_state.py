"""What a replay reads and keeps: runs, their evidence, the plan, and the state of one cause and group. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from monitor.incidents.decide import UPDATE_INTERVAL
from monitor.incidents.openings import Router
from monitor.incidents.past import PastIncident
from monitor.incidents.rulebook import Rule, RunFilter
from monitor.model import Cause, Incident, IncidentKey, IncidentState, Silence

MAX_RUNS = 5_000
"""Runs that a rule looks at, whatever its window: as when a run is evaluated."""


class ReplayedRun(NamedTuple):
    """One finished run, or one that ended by an unforeseen error. A plain tuple does as well, and is faster."""

    id: int
    target: str
    status: str
    at: Any
    """When it finished: what the plan's `moment` reads."""
    due: int
    answered: int
    accepted: int | None
    crash_key: str | None
    """Of a run that ended by an unforeseen error: its run key, else its id. None for others."""


class ReplayedEvidence(NamedTuple):
    """What a run found out about one cause."""

    cause: Cause
    group: str
    seen: int
    """Items, or requests."""
    inhibited: bool
    groups: tuple[str, ...] = ()
    """Groups of its items, as far as known."""


def _as_it_is(at: datetime) -> datetime:
    return at


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What a replay of one target goes by."""

    target: str
    environment: str
    rules: Mapping[Cause, Rule]
    route: Router
    silences: Sequence[Silence] = ()
    moment: Callable[[Any], datetime] = _as_it_is
    """Reads the time of a run: of millions of times as text, few are needed."""


@dataclass(slots=True)
class Subject:
    """One cause and group of the target."""

    key: IncidentKey
    rule: Rule
    criteria: RunFilter
    state: Incident | None = None
    """The open incident, else the one resolved last."""
    past: PastIncident | None = None
    marks: dict[int, bool] = field(default_factory=dict)
    """Runs with evidence, and whether it is inhibited."""
    clean: int = 0
    """At least the clean runs since the last evidence."""
    evidence_at: datetime | None = None
    """The last evidence, if it is newer than in `state`."""
    members: int = 0
    actual_members: int = 0
    """Items of the recorded incident."""
    actual_open: bool = False
    actual_silenced: bool = False
    """The recorded opening waits for the end of a silence."""

    @property
    def is_open(self) -> bool:
        """Whether the replay has an open incident."""
        return self.state is not None and self.state.state is not IncidentState.RESOLVED

    @property
    def is_active(self) -> bool:
        """Whether a run without evidence of its own may change something."""
        return self.is_open or self.actual_members > 0

    def current(self) -> Incident | None:
        """The incident with its last evidence."""
        if self.evidence_at is not None and self.state is not None:
            self.state, self.evidence_at = replace(self.state, last_evidence_at=self.evidence_at), None
        return self.state

    def mark(self, run_id: int, *, inhibited: bool) -> None:
        """Notes that a run has evidence."""
        self.marks[run_id] = inhibited
        if len(self.marks) > 4 * MAX_RUNS:
            self.marks = dict(list(self.marks.items())[-2 * MAX_RUNS :])

    def quiet(self, now: datetime) -> bool:
        """Whether no message is due, and no end of a silence could be noticed."""
        state = self.state
        if state is None or state.silence_id is not None:
            return False
        waited = now - (state.last_message_at or state.opened_at)
        if state.unnotified_count and waited >= UPDATE_INTERVAL:
            return False
        return state.state is not IncidentState.OPEN or waited < self.rule.repeat_interval
