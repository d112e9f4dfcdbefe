"""Replays the stored runs of one target through the rules: which incidents open, resolve and notify. Pure.

Runs come in their order, each with its evidence and its recorded events. Each decision is `decide`'s, over the same
runs that the evaluation of a run gives it. What makes a year fast: a run is passed over where `decide` could only wait
or continue, and then nothing about the incident changes. It sends nothing and reads no clock.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from monitor.incidents.decide import (
    OPENINGS,
    Action,
    Decision,
    DecisionReason,
    EvidencePoint,
    acknowledge,
    count_evidence,
    decide,
    evolve,
    resolve_manually,
)
from monitor.incidents.evidence import CRASHES_IN_A_ROW, INHIBITS
from monitor.incidents.openings import MESSAGE_KINDS, new_incident, with_channels
from monitor.incidents.past import PastIncident, RecordedEvent, StateThen
from monitor.incidents.replay_state import MAX_RUNS, ReplayedEvidence, ReplayedRun, ReplayPlan, Subject
from monitor.incidents.rulebook import COUNTED_PER_ITEM, DEFAULT_RULES, Rule, counts_as_recovery, run_filter
from monitor.incidents.silences import active_silence, apply_silences
from monitor.model import (
    FINISHED,
    ITEM_CAUSES,
    MONITOR_CAUSES,
    OBSERVED_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    IncidentKey,
    RunStatus,
    rank,
)
from monitor.notifications.messages import MessageKind
from monitor.notifications.routing import attributes_of

_TRIM_EVERY = 1_000
NOT_REPLAYED = frozenset({Cause.CHANNEL_FAILING})
"""Deliveries lead to it, no run of a target."""

_RECORDED: Mapping[str, Action] = {
    "opened": Action.OPEN,
    "reopened": Action.REOPEN,
    "updated": Action.UPDATE,
    "resolved": Action.RESOLVE,
}
"""Events that lead to the same in the replay of a cause that no run is evidence of."""
_UNCHANGED = frozenset({Action.NOTHING, Action.WAIT, Action.INHIBIT})


_ASKED = frozenset(status.value for status in run_filter(Cause.OUTAGE).statuses)
_CRASHED = RunStatus.CRASHED.value
_RUN_CAUSES = tuple(cause for cause in MONITOR_CAUSES if cause not in NOT_REPLAYED)
_CONDITIONS: Mapping[Cause, frozenset[str]] = {
    cause: frozenset(status.value for status in run_filter(cause).statuses)
    for cause in (*REQUEST_CAUSES, *ITEM_CAUSES, *_RUN_CAUSES)
} | dict.fromkeys(OBSERVED_CAUSES, frozenset(status.value for status in FINISHED))
"""Statuses of the runs that count, by cause."""
_STATUSES = tuple(dict.fromkeys(_CONDITIONS.values()))


class TargetReplay:
    """Replays one target, run by run. `incidents` has the result."""

    def __init__(self, plan: ReplayPlan) -> None:
        self.plan = plan
        self.incidents: list[PastIncident] = []
        """Those of the period, in the order of their openings; those that were open at its beginning come first."""
        self.unmatched_actions = 0
        """Acknowledgements and resolutions by people for which the replay had no open incident."""
        self._subjects: dict[IncidentKey, Subject] = {}
        self._active: dict[IncidentKey, Subject] = {}
        self._runs: list[ReplayedRun] = []
        """Oldest first."""
        rules = [plan.rules[cause] for cause in _CONDITIONS if cause not in OBSERVED_CAUSES]
        self._window, self._least = _bounds(rules)
        self._trim_at = _TRIM_EVERY
        self._monitor_bounds = {status.value: _monitor_bounds(plan.rules, status.value) for status in RunStatus}
        self._request_rules = [plan.rules[cause] for cause in REQUEST_CAUSES]
        self._crashes: set[str] = set()

    # --- before the period

    def begin_with(self, then: StateThen) -> None:
        """Takes over an incident as it was when the period began: an open one, or one that was resolved lately."""
        incident = then.incident
        subject = self._subject(incident.key)
        subject.state, subject.members, subject.actual_members = incident, then.members, then.members
        subject.clean = subject.rule.resolve_after  # not counted: `decide` counts
        subject.past = PastIncident.of(incident, before=True)
        if subject.is_open:
            subject.actual_open, subject.actual_silenced = True, incident.silence_id is not None
            self.incidents.append(subject.past)
        self._note_activity(subject)

    def warm_up(self, run: ReplayedRun, evidence: Iterable[ReplayedEvidence]) -> None:
        """A run before the period: it counts for later decisions and leads to none."""
        self._add(run)
        for piece in evidence:
            if piece.cause not in NOT_REPLAYED:
                self._subject((piece.cause, piece.group)).mark(run[0], inhibited=piece.inhibited)

    # --- the period

    def run(
        self, run: ReplayedRun, evidence: Sequence[ReplayedEvidence] = (), events: Sequence[RecordedEvent] = ()
    ) -> None:
        """One run, with the recorded events of the same run."""
        self._add(run)
        if evidence or events or self._active:
            self._evaluate(run, evidence, _by_key(events))

    def between(self, key: IncidentKey, event: RecordedEvent) -> None:
        """What a person or a delivery did between two runs."""
        subject = self._subject(key)
        _follow_actual(subject, [event])
        state = subject.current()
        if event.kind in {"acknowledged", "resolved"}:
            self._act(subject, event)
        elif event.kind == "notified" and subject.is_open and state is not None and state.silence_id is not None:
            self._notify_late(subject, event.at)
        self._note_activity(subject)

    def _act(self, subject: Subject, event: RecordedEvent) -> None:
        """An acknowledgement or a resolution by a person, if the replay has something to apply it to."""
        state = subject.state
        decision = None
        if state is not None:
            decision = acknowledge(state) if event.kind == "acknowledged" else resolve_manually(state)
        if state is None or decision is None or decision.action is Action.NOTHING:
            self.unmatched_actions += 1
            return
        resolves = decision.action is Action.RESOLVE
        subject.members = 0 if resolves else subject.members
        self._keep(subject, decision, evolve(state, decision, now=event.at, members=subject.members), event.at)

    # --- one run

    def _add(self, run: ReplayedRun) -> None:
        self._runs.append(run)
        if len(self._runs) >= self._trim_at:
            self._trim()
        if run[7] is not None or self._crashes:
            self._count_crash(run)

    def _count_crash(self, run: ReplayedRun) -> None:
        """Keeps the streak of runs that ended by an unforeseen error."""
        if run[2] == _CRASHED:
            self._crashes.add(run[7] or str(run[0]))
        else:
            self._crashes.clear()

    def _at(self, run: ReplayedRun) -> datetime:
        return self.plan.moment(run[3])

    def _trim(self) -> None:
        """Forgets the runs that no rule looks at any more: a rule looks at some, however old they are."""
        runs, kept = self._runs, len(self._runs)
        for statuses in _STATUSES:
            counted = (number for number in range(len(runs) - 1, -1, -1) if runs[number][2] in statuses)
            kept = min(kept, next(islice(counted, self._least - 1, None), 0))
        edge = self._at(runs[-1]) - self._window
        inside = max(bisect_left(runs, edge, key=self._at), len(runs) - 2 * MAX_RUNS)
        del runs[: min(inside, kept, len(runs) - 2)]
        self._trim_at = 2 * len(runs) + _TRIM_EVERY

    def _evaluate(
        self,
        run: ReplayedRun,
        evidence: Sequence[ReplayedEvidence],
        events: Mapping[IncidentKey, Sequence[RecordedEvent]],
    ) -> None:
        pieces = {(piece.cause, piece.group): piece for piece in evidence if piece.cause not in NOT_REPLAYED}
        keys = {*pieces, *self._active, *(key for key in events if key[0] not in NOT_REPLAYED)}
        inhibitors = [cause for cause, _ in pieces if cause in REQUEST_CAUSES]
        bounds = self._bounds_of(run[2], keys)
        may_resolve = (Cause.SYNC_LOG_EMPTY, "") not in pieces
        for key in sorted(keys, key=_order) if len(keys) > 1 else keys:
            subject = self._subject(key)
            self._notice_silence_end(subject)
            if run[2] in _CONDITIONS[key[0]]:
                if key[0] in OBSERVED_CAUSES:
                    self._evaluate_observed(subject, run, events.get(key, ()))
                elif key[0] in ITEM_CAUSES:
                    left = sum(event.count for event in events.get(key, ()) if event.kind == "left")
                    self._evaluate_items(
                        subject, run, pieces.get(key), left, inhibitors, bounds[key[0]], may_resolve=may_resolve
                    )
                else:
                    self._evaluate_runs(subject, run, pieces.get(key), bounds[key[0]])
            _follow_actual(subject, events.get(key, ()))
            self._note_activity(subject)

    def _bounds_of(self, status: str, keys: Collection[IncidentKey]) -> Mapping[Cause, tuple[timedelta, int]]:
        """How far back a run looks for each cause: as far as any of the rules that it evaluates together."""
        monitor = self._monitor_bounds[status]
        if status not in _ASKED:
            return monitor
        items = sorted({cause for cause, _ in keys if cause in ITEM_CAUSES}, key=rank)
        together = _bounds([*self._request_rules, *(self.plan.rules[cause] for cause in items)])
        return {**monitor, **dict.fromkeys((*REQUEST_CAUSES, *items), together)}

    def _evaluate_runs(
        self, subject: Subject, run: ReplayedRun, piece: ReplayedEvidence | None, bounds: tuple[timedelta, int]
    ) -> None:
        """A cause without members."""
        now, has_evidence = self._at(run), piece is not None and not piece.inhibited
        if subject.key[0] is Cause.RUN_CRASHING:
            has_evidence = self._crash_counts(subject, run, stored=has_evidence)
            piece = ReplayedEvidence(*subject.key, len(self._crashes), inhibited=False) if has_evidence else None
            if not has_evidence and run[2] == _CRASHED:
                return  # such a run is evaluated only with evidence
        if piece is not None:
            subject.mark(run[0], inhibited=not has_evidence)
        if subject.is_open:
            if has_evidence:
                subject.clean = 0
                if subject.quiet(now):
                    subject.evidence_at = now
                    return
            else:
                subject.clean += piece is None and self._confirms(subject, run)
                if subject.clean < subject.rule.resolve_after and subject.quiet(now):
                    return
        elif not has_evidence or not self._may_open(subject, now, bounds):
            return
        decision = decide(subject.rule, subject.current(), self._points(subject, now, bounds), now=now)
        self._apply(subject, decision, run, piece if has_evidence else None, members=0)

    def _crash_counts(self, subject: Subject, run: ReplayedRun, *, stored: bool) -> bool:
        """Whether a run is evidence of `run_crashing`, which depends on whether an incident says so already."""
        if run[2] != _CRASHED:
            return False
        enough = len(self._crashes) >= CRASHES_IN_A_ROW
        return stored if enough else subject.is_open

    def _evaluate_items(
        self,
        subject: Subject,
        run: ReplayedRun,
        piece: ReplayedEvidence | None,
        left: int,
        inhibitors: Collection[Cause],
        bounds: tuple[timedelta, int],
        *,
        may_resolve: bool,
    ) -> None:
        """A cause with members: the stored evidence has items of no incident, the recorded incident has the others."""
        now, found = self._at(run), 0 if piece is None else piece.seen
        level, looked = max(0, subject.actual_members - left) + found, run[5] > 0
        inhibited = _is_inhibited(subject.key[0], inhibitors) if piece is None else piece.inhibited
        if not subject.is_open:
            has_evidence = found > 0 or (level > 0 and looked)
            if has_evidence:
                subject.mark(run[0], inhibited=inhibited)
            if has_evidence and not inhibited and self._may_open(subject, now, bounds):
                decision = decide(subject.rule, subject.state, self._points(subject, now, bounds), now=now, members=0)
                self._apply(subject, decision, run, _at_level(subject, piece, level), members=level)
            return
        stayed = max(0, subject.members - left)
        stayed = min(stayed, level) if looked or subject.actual_open else stayed
        joined = 0 if inhibited else max(0, level - stayed)
        subject.members = stayed + joined
        if piece is not None:
            subject.mark(run[0], inhibited=piece.inhibited)
        if subject.state is not None and joined:
            subject.state = replace(subject.state, unnotified_count=subject.state.unnotified_count + joined)
        if subject.members and not joined and subject.quiet(now):
            return
        decision = decide(
            subject.rule,
            subject.current(),
            self._points(subject, now, bounds),
            now=now,
            members=subject.members,
            may_resolve=may_resolve,
        )
        self._apply(subject, decision, run, piece if joined else None, members=subject.members)

    def _evaluate_observed(self, subject: Subject, run: ReplayedRun, events: Iterable[RecordedEvent]) -> None:
        """A cause that waits, canaries or objectives lead to: it opens and resolves when the recorded one did.

        Runs do not say what those counted. Reminders, silences and routes are those of the plan.
        """
        recorded = next((event for event in events if event.kind in _RECORDED), None)
        if recorded is not None:
            self._apply_recorded(subject, run, recorded)
        elif subject.is_open and not subject.quiet(self._at(run)):
            decision = decide(subject.rule, subject.state, (), now=self._at(run))
            self._apply(subject, decision, run, None, members=0)

    def _apply_recorded(self, subject: Subject, run: ReplayedRun, event: RecordedEvent) -> None:
        action = _RECORDED[event.kind]
        if action is not Action.OPEN and subject.state is None:
            return
        decision = Decision(
            cause=subject.key[0],
            action=action,
            reason=DecisionReason.THRESHOLD_MET,
            first_evidence_at=event.first_evidence_at,
        )
        configured = self.plan.rules[subject.key[0]]
        built_in = configured.severity is DEFAULT_RULES[configured.cause].severity
        severity = event.severity if built_in and event.severity is not None else configured.severity
        subject.rule = replace(configured, severity=severity)
        if action is Action.UPDATE and subject.state is not None and subject.state.severity is not severity:
            raised = replace(subject.state, severity=severity)
            added = () if raised.silence_id is not None else self.plan.route(attributes_of(raised))
            subject.state = replace(raised, channels=tuple(dict.fromkeys((*raised.channels, *added))))
        self._apply(subject, decision, run, None, members=0)

    # --- what `decide` needs

    def _may_open(self, subject: Subject, now: datetime, bounds: tuple[timedelta, int]) -> bool:
        """Whether enough of the newest runs have evidence: `decide` counts the same, but may look at thousands."""
        if subject.key[0] in COUNTED_PER_ITEM or bounds[0] <= timedelta(hours=1):
            return True
        rule = subject.rule
        newest = self._points(subject, now, (timedelta(0), rule.of))
        counted = count_evidence(rule, newest, now)
        return counted.seen >= counted.needed

    def _points(self, subject: Subject, now: datetime, bounds: tuple[timedelta, int]) -> list[EvidencePoint]:
        """The runs that count, newest first: those within a window, and at least some."""
        (window, least), marks = bounds, subject.marks
        since, points, statuses = now - window, list[EvidencePoint](), _CONDITIONS[subject.key[0]]
        for run in reversed(self._runs):
            if run[2] not in statuses:
                continue
            at = self._at(run)
            if len(points) >= MAX_RUNS or (len(points) >= least and at < since):
                break
            inhibited = marks.get(run[0])
            points.append(
                EvidencePoint(
                    run_id=run[0],
                    at=at,
                    evidence=inhibited is False,
                    inhibited=inhibited is True,
                    confirms_recovery=self._confirms(subject, run),
                )
            )
        return points

    def _confirms(self, subject: Subject, run: ReplayedRun) -> bool:
        return counts_as_recovery(subject.criteria.criterion, due=run[4], replied=run[5], accepted=run[6])

    # --- what follows from a decision

    def _apply(
        self, subject: Subject, decision: Decision, run: ReplayedRun, piece: ReplayedEvidence | None, *, members: int
    ) -> None:
        if decision.action in _UNCHANGED:
            return
        now, before = self._at(run), subject.state
        seen = None if piece is None else Evidence(cause=piece.cause, group=piece.group, count=piece.seen)
        groups = piece.groups if piece is not None else ()
        if before is None or decision.action is Action.OPEN:
            before = new_incident(
                decision,
                subject.rule,
                seen or Evidence(cause=subject.key[0], group=subject.key[1], count=0),
                target=self.plan.target,
                environment=self.plan.environment,
                accepted=(run[5] if run[6] is None else run[6]) > 0,
                now=now,
                groups=groups,
            )
        elif decision.action is Action.REOPEN:
            before = replace(before, groups=groups)
        decision = apply_silences(decision, before, self.plan.silences, now=now)
        after = before if decision.action is Action.OPEN else evolve(
            before, decision, now=now, evidence=seen, members=members
        )  # fmt: skip
        if decision.action in OPENINGS:
            after = with_channels(after, decision, self.plan.route, now=now)
            subject.members, subject.clean = members, 0
        self._keep(subject, decision, after, now)

    def _keep(self, subject: Subject, decision: Decision, after: Incident, now: datetime) -> None:
        """Stores the incident after a decision, and what it sent."""
        subject.state, subject.evidence_at = after, None
        if decision.action is Action.OPEN:
            subject.past = PastIncident.of(after)
            self.incidents.append(subject.past)
        past = subject.past
        if past is None:
            return
        if decision.action is Action.REOPEN:
            past.reopened.append(now)
            past.resolved_at = None
            if all(past is not each for each in self.incidents):
                self.incidents.append(past)
        if decision.action is Action.RESOLVE:
            past.resolved_at, subject.members = now, 0
        past.acknowledged += decision.action is Action.ACKNOWLEDGE
        if decision.action in MESSAGE_KINDS:
            past.send(now, MESSAGE_KINDS[decision.action], after.channels)

    def _notice_silence_end(self, subject: Subject) -> None:
        """The opening of a silenced incident is sent once no silence matches any more.

        The delivery after a run notices that. If the recorded opening waits too, its own delivery is recorded
        (`between`).
        """
        state = subject.state
        if state is None or state.silence_id is None or not subject.is_open or len(self._runs) < 2:
            return
        if subject.actual_open and subject.actual_silenced:
            return
        delivered_at = self._at(self._runs[-2])
        if delivered_at > state.opened_at and active_silence(state, self.plan.silences, now=delivered_at) is None:
            self._notify_late(subject, delivered_at)

    def _notify_late(self, subject: Subject, at: datetime) -> None:
        state, past = subject.current(), subject.past
        if state is None or past is None:
            return
        channels = self.plan.route(attributes_of(state))
        subject.state = replace(state, silence_id=None, channels=channels, last_message_at=at, unnotified_count=0)
        past.send(at, MessageKind.OPENED, channels)

    def _subject(self, key: IncidentKey) -> Subject:
        found = self._subjects.get(key)
        if found is None:
            found = Subject(key=key, rule=self.plan.rules[key[0]], criteria=run_filter(key[0]))
            self._subjects[key] = found
        return found

    def _note_activity(self, subject: Subject) -> None:
        if subject.is_active:
            self._active[subject.key] = subject
        else:
            self._active.pop(subject.key, None)


def _bounds(rules: Collection[Rule]) -> tuple[timedelta, int]:
    """How far back, and at least how many runs, any of the rules looks."""
    return max(rule.window for rule in rules), max(max(rule.of, rule.resolve_after) for rule in rules)


def _monitor_bounds(rules: Mapping[Cause, Rule], status: str) -> Mapping[Cause, tuple[timedelta, int]]:
    together = [cause for cause in _RUN_CAUSES if status in _CONDITIONS[cause]]
    return dict.fromkeys(together, _bounds([rules[cause] for cause in together])) if together else {}


def _order(key: IncidentKey) -> tuple[bool, int, str]:
    """Request causes, then items, then the monitor's own: the order in which a run is evaluated."""
    return key[0] in MONITOR_CAUSES, rank(key[0]), key[1]


def _is_inhibited(cause: Cause, inhibitors: Iterable[Cause]) -> bool:
    return any(cause in INHIBITS.get(each, ()) for each in inhibitors)


def _at_level(subject: Subject, piece: ReplayedEvidence | None, level: int) -> ReplayedEvidence:
    """The evidence that opens an incident of items: of all in the bad state."""
    return ReplayedEvidence(*subject.key, level, inhibited=False, groups=piece.groups if piece is not None else ())


def _by_key(events: Iterable[RecordedEvent]) -> dict[IncidentKey, list[RecordedEvent]]:
    found: dict[IncidentKey, list[RecordedEvent]] = {}
    for event in events:
        found.setdefault(event.key, []).append(event)
    return found


def _follow_actual(subject: Subject, events: Iterable[RecordedEvent]) -> None:
    """What the recorded incident had after a run."""
    for event in events:
        if event.kind in {"opened", "reopened"}:
            subject.actual_open, subject.actual_silenced = True, not event.channels
        elif event.kind == "notified":
            subject.actual_silenced = False
        elif event.kind == "joined":
            subject.actual_members += event.count
        elif event.kind == "left":
            subject.actual_members = max(0, subject.actual_members - event.count)
        elif event.kind == "resolved":
            subject.actual_members, subject.actual_open = 0, False
