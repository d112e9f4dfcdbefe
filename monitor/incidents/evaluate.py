"""Evaluates a finished run: evidence, decisions and their effects, in the closing transaction.

It reads what the pure rules need, lets `decide` decide, and writes incidents, events, members and notifications. The
caller's transaction makes all of it one change, together with the snapshot.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

import msgspec
from sqlalchemy import Connection

from monitor.incidents import members, silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.decide import (
    OPENINGS,
    REOPEN_WITHIN,
    Action,
    Decision,
    DecisionReason,
    EvidencePoint,
    decide,
    evolve,
    may_change,
)
from monitor.incidents.evidence import (
    detect_crashing,
    detect_empty_sync_log,
    detect_missed_runs,
    detect_too_many_unknown,
    mark_inhibited,
)
from monitor.incidents.members import AgeLimits, Membership
from monitor.incidents.observations import (
    Observation,
    ObservationSource,
    decide_observation,
    mark_point,
    removed_observations,
    rule_for,
)
from monitor.incidents.openings import Router
from monitor.incidents.recorder import IncidentRecorder
from monitor.incidents.rulebook import Rule, run_filter
from monitor.model import (
    ITEM_CAUSES,
    MONITOR_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    IncidentKey,
    IncidentState,
    SyncReport,
    rank,
)
from monitor.model.schedule import DueTimes
from monitor.notifications.messages import RunFacts
from monitor.notifications.texts import format_items


class AppliedDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision about one incident, and the incident after it."""

    decision: Decision
    incident: Incident


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvaluation:
    """The evaluation of one run: everything that decisions need, read once, and the writes that follow each."""

    rules: Mapping[Cause, Rule]
    membership: Membership
    conn: Connection
    recorder: IncidentRecorder
    now: datetime
    evidence: Mapping[IncidentKey, Evidence]
    evidence_ids: Mapping[IncidentKey, int]
    points: Mapping[IncidentKey, Sequence[EvidencePoint]]
    current: Mapping[IncidentKey, Incident]
    member_counts: Mapping[int, int]
    """Members by incident id, after recovered ones left and before new ones join."""

    def evaluate_runs(self, key: IncidentKey) -> AppliedDecision | None:
        """Decides about a cause without members, and applies it."""
        decision = decide(self.rules[key[0]], self.current.get(key), self.points[key], now=self.now)
        return self._apply(key, decision, members_now=0)

    def evaluate_observation(self, observation: Observation) -> AppliedDecision | None:
        """The same for what a wait, a canary or an objective says."""
        key = observation.key
        rule = rule_for(observation, self.rules[key[0]])
        decision = decide_observation(rule, self.current.get(key), observation, now=self.now)
        return replace(self, rules={**self.rules, key[0]: rule})._apply(key, decision, members_now=0)  # noqa: SLF001  # of this class

    def evaluate_items(self, key: IncidentKey, *, may_resolve: bool) -> AppliedDecision | None:
        """The same for a cause with members: recovered items have left already, new ones join here."""
        incident, members_now = self._open_incident(key), 0
        if incident is not None:
            joined = self._add_members(key, incident.id) if self._has_own_evidence(key) else 0
            incident = replace(incident, unnotified_count=incident.unnotified_count + joined)
            members_now = self.member_counts.get(incident.id, 0) + joined
        decision = decide(
            self.rules[key[0]],
            incident or self.current.get(key),
            self.points[key],
            now=self.now,
            members=members_now,
            may_resolve=may_resolve,
        )
        return self._apply(key, decision, members_now=members_now, incident=incident)

    def _open_incident(self, key: IncidentKey) -> Incident | None:
        incident = self.current.get(key)
        return None if incident is None or incident.state is IncidentState.RESOLVED else incident

    def _has_own_evidence(self, key: IncidentKey) -> bool:
        """Whether this run has evidence for it that no higher cause inhibits."""
        piece = self.evidence.get(key)
        return piece is not None and piece.inhibited_by is None

    def _add_members(self, key: IncidentKey, incident_id: int) -> int:
        joined = self.membership.add(self.conn, self.evidence[key], incident_id=incident_id, now=self.now)
        if joined:
            sample = list(self.evidence[key].sample_ids)
            self.recorder.add_event(
                incident_id, "joined", f"{format_items(joined)} joined", {"count": joined, "sample_ids": sample}
            )
        return joined

    def _apply(
        self, key: IncidentKey, decision: Decision, *, members_now: int, incident: Incident | None = None
    ) -> AppliedDecision | None:
        if decision.action in {Action.NOTHING, Action.WAIT, Action.INHIBIT}:
            return None
        before = incident or self.current.get(key)
        if decision.action is Action.OPEN:
            before = None
        subject = self._subject(key, decision, before, members_now)
        decision = self.recorder.apply_silences(decision, subject)
        after = (
            self._open_new_incident(key, decision, subject)
            if before is None
            else self._save(key, decision, subject, members_now)
        )
        after = self._with_summed_breakdown(decision, incident_store.with_current_members(self.conn, [after])[0])
        rule = self.rules[decision.cause] if decision.action in OPENINGS else None
        self.recorder.record(decision, after, rule=rule, error=self._last_error(decision.cause))
        return AppliedDecision(decision=decision, incident=after)

    def _with_summed_breakdown(self, decision: Decision, incident: Incident) -> Incident:
        """An outage opens with the breakdown of all runs that led to it: the last may have sent few requests."""
        evidence, since = incident.evidence, decision.first_evidence_at
        if incident.cause is not Cause.OUTAGE or evidence is None or since is None or decision.action not in OPENINGS:
            return incident
        summed = incident_store.breakdown_since(self.conn, target=incident.target, key=incident.key, since=since)
        return replace(incident, evidence=replace(evidence, breakdown=summed))

    def _subject(self, key: IncidentKey, decision: Decision, before: Incident | None, members_now: int) -> Incident:
        """The incident as silences and routes see it: with the groups of its items and of those about to join."""
        if before is None:
            piece, rule = self.evidence[key], self.rules[decision.cause]
            return self.recorder.new_incident(decision, rule, piece, groups=self._groups(key))
        if decision.action is Action.REOPEN:
            return replace(before, groups=self._groups(key))
        if decision.action in {Action.UPDATE, Action.REMIND}:
            return incident_store.with_current_members(self.conn, [replace(before, member_count=members_now)])[0]
        return before

    def _groups(self, key: IncidentKey) -> tuple[str, ...]:
        return self.membership.groups(self.conn, key, now=self.now) if key[0] in ITEM_CAUSES else ()

    def _open_new_incident(self, key: IncidentKey, decision: Decision, draft: Incident) -> Incident:
        addressed, evidence_id = self.recorder.with_channels(draft, decision), self.evidence_ids[key]
        if key[0] in ITEM_CAUSES:
            addressed = replace(addressed, member_count=self.evidence[key].count)  # they join below
        opened = replace(addressed, id=incident_store.open_incident(self.conn, addressed, evidence_id=evidence_id))
        return self._with_members(opened)

    def _save(self, key: IncidentKey, decision: Decision, before: Incident, members_now: int) -> Incident:
        piece = self.evidence.get(key)
        after = evolve(before, decision, now=self.now, evidence=piece, members=members_now)
        # the environment as configured now: senders skip incidents of other environments
        after = replace(after, environment=self.recorder.environment)
        if decision.action is Action.RESOLVE:
            members.remove_all(self.conn, incident_id=after.id)
        if decision.action is Action.REOPEN:
            after = self.recorder.with_channels(after, decision)
        if decision.reason is DecisionReason.MORE_SEVERE:
            after = self.recorder.escalated(after, self.rules[decision.cause].severity)
        if self._has_own_evidence(key) or after != self.current[key]:
            incident_store.save(
                self.conn, after, evidence_id=self.evidence_ids[key] if self._has_own_evidence(key) else None
            )
        return self._with_members(after) if decision.action is Action.REOPEN else after

    def _with_members(self, incident: Incident) -> Incident:
        """Adds the items that opened it, if its cause has members."""
        if incident.cause not in ITEM_CAUSES:
            return incident
        count = self._add_members(incident.key, incident.id)
        taken = replace(incident, member_count=count, peak_count=max(count, incident.peak_count))
        if taken != incident:
            incident_store.save(self.conn, taken)
        return taken

    def _last_error(self, cause: Cause) -> str | None:
        return self.recorder.run.error if self.recorder.run and cause in _CAUSES_WITH_ERROR else None


_MAX_STREAK = 1_000
_CAUSES_WITH_ERROR = frozenset({Cause.SYNC_LOG_UNREADABLE, Cause.RUN_CRASHING})
"""Causes whose messages say how the run ended."""

_RUN_CAUSES = tuple(cause for cause in MONITOR_CAUSES if cause is not Cause.CHANNEL_FAILING)
"""Monitor causes that runs are evidence of; `channel_failing` comes from deliveries."""


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True):
    """A run's evidence, highest cause first, and what was done about incidents."""

    evidence: tuple[Evidence, ...] = ()
    changes: tuple[AppliedDecision, ...] = ()


def merged(*results: EvaluationResult) -> EvaluationResult:
    """Several evaluations of one run as one, in the order of their ranks."""
    return EvaluationResult(
        evidence=tuple(piece for each in results for piece in each.evidence),
        changes=tuple(change for each in results for change in each.changes),
    )


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A target's incidents at the end of a run, read and locked once for the evaluations of all kinds of causes."""

    incidents: Sequence[Incident]
    """Open ones, and those resolved since; oldest first."""
    resolved_since: datetime

    @property
    def any_open(self) -> bool:
        """Whether one is open."""
        return any(each.state is not IncidentState.RESOLVED for each in self.incidents)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentEvaluator:
    """Evaluates the runs of one target."""

    target: str
    environment: str
    rules: Mapping[Cause, Rule]
    age_limits: AgeLimits
    route: Router
    group_wait: timedelta = timedelta(0)
    """How long messages wait to be batched with those of other targets."""
    due_times: DueTimes | None = None
    """None without a schedule: then no run can be missed."""
    sources: Sequence[ObservationSource] = ()
    """Waits, canaries and objectives, which the end of every run evaluates."""

    @property
    def membership(self) -> Membership:
        """Its items and the incidents they belong to."""
        return Membership(target=self.target, rules=self.rules, age_limits=self.age_limits)

    def read_standing(self, conn: Connection, *, now: datetime) -> Standing:
        """What the evaluations of a run need to know of incidents, before the first of them."""
        since = now - self._lookback((*REQUEST_CAUSES, *ITEM_CAUSES, *_RUN_CAUSES))
        found = incident_store.recent(conn, target=self.target, resolved_since=since)
        return Standing(incidents=found, resolved_since=since)

    def evaluate(
        self,
        conn: Connection,
        *,
        facts: RunFacts,
        evidence: Sequence[Evidence],
        now: datetime,
        sync_log_empty: bool,
        standing: Standing | None = None,
        all_completed: bool = False,
    ) -> EvaluationResult:
        """Evaluates request and item causes of a run that asked the API, whose outcomes are already stored.

        `evidence` has the highest rank first. An incident whose members were all answered resolves, even if the run was
        cut short. If the sync log was empty, no item incident resolves. `all_completed`: every tracked item is.
        """
        may_resolve = not sync_log_empty
        current = self._current(conn, now, (*REQUEST_CAUSES, *ITEM_CAUSES), standing)
        # First of all: an item that went from one bad state to another must be free to join the other incident.
        self._release_members(conn, facts.run_id, current, now, remove_untracked=may_resolve)
        pieces = (
            *mark_inhibited(evidence, evidence),
            *mark_inhibited(() if all_completed else self.membership.evidence(conn, now=now), evidence),
        )
        item_keys = _undecided(_item_keys(pieces, current), pieces, current)
        run_keys = _undecided([(cause, "") for cause in REQUEST_CAUSES], pieces, current)
        if not (pieces or run_keys or item_keys):
            return EvaluationResult()
        evaluation = self._evaluation(conn, facts, pieces, current, now, keys=[*run_keys, *item_keys])
        changes = [evaluation.evaluate_runs(key) for key in run_keys]
        changes += [evaluation.evaluate_items(key, may_resolve=may_resolve) for key in item_keys]
        return EvaluationResult(evidence=pieces, changes=tuple(filter(None, changes)))

    def _current(
        self, conn: Connection, now: datetime, causes: Iterable[Cause], standing: Standing | None
    ) -> Mapping[IncidentKey, Incident]:
        """Open incidents, and those resolved so lately that they matter for evidence of these causes now."""
        since = now - self._lookback(causes)
        if standing is None or since < standing.resolved_since:
            return incident_store.current(conn, target=self.target, resolved_since=since)
        return incident_store.newest_of_each(standing.incidents, resolved_since=since)

    def _lookback(self, causes: Iterable[Cause]) -> timedelta:
        return max([REOPEN_WITHIN, *(self.rules[cause].window for cause in causes)])

    def _release_members(
        self,
        conn: Connection,
        run_id: int,
        current: Mapping[IncidentKey, Incident],
        now: datetime,
        *,
        remove_untracked: bool,
    ) -> None:
        released = self.membership.release(conn, current.values(), now=now, remove_untracked=remove_untracked)
        for incident_id, count in released.items():
            incident_store.add_event(
                conn,
                incident_id=incident_id,
                run_id=run_id,
                at=now,
                kind="left",
                reason=f"{format_items(count)} recovered, or no longer tracked",
                data={"count": count},
            )

    def evaluate_monitor(
        self,
        conn: Connection,
        *,
        facts: RunFacts,
        read: SyncReport | None,
        started_at: datetime,
        now: datetime,
        inhibitors: Sequence[Evidence] = (),
        standing: Standing | None = None,
    ) -> EvaluationResult:
        """Evaluates the monitor causes that the run counts for. Its outcomes are already stored.

        `read` is None if the sync log could not be read. `inhibitors` are request causes, highest rank first.
        """
        current = self._current(conn, now, _RUN_CAUSES, standing)
        missed = self._missed_runs(conn, facts, started_at, current.get((Cause.RUN_MISSED, "")))
        pieces = mark_inhibited(self._monitor_evidence(conn, facts, read, detect_missed_runs(missed)), inhibitors)
        counted = [(cause, "") for cause in _RUN_CAUSES if facts.status in run_filter(cause).statuses]
        keys = _undecided(counted, pieces, current)
        if not (pieces or keys):
            return EvaluationResult()
        evaluation = self._evaluation(conn, facts, pieces, current, now, keys=keys)
        changes = tuple(filter(None, (evaluation.evaluate_runs(key) for key in keys)))
        return EvaluationResult(evidence=pieces, changes=changes)

    def evaluate_observations(
        self,
        conn: Connection,
        *,
        facts: RunFacts,
        now: datetime,
        inhibitors: Sequence[Evidence] = (),
        standing: Standing | None = None,
    ) -> EvaluationResult:
        """Evaluates what waits, canaries and objectives say at the end of a run.

        `inhibitors` are the request causes of the run, highest rank first.
        """
        said = [
            each
            for source in self.sources
            for each in source.observe(conn, target=self.target, rules=self.rules, now=now)
        ]
        # a resolved one matters only where one may open
        causes = {each.cause for each in said if each.points and each.points[0].evidence}
        current = self._current(conn, now, causes, standing)
        said = [*map(partial(_inhibited, inhibitors=inhibitors), said), *removed_observations(said, current)]
        pieces = tuple(each.evidence for each in said if each.evidence is not None)
        said = [each for each in said if may_change(current.get(each.key), each.evidence)]
        if not (pieces or said):
            return EvaluationResult()
        points = {each.key: each.points for each in said}
        evaluation = self._evaluation(conn, facts, pieces, current, now, points=points)
        changes = tuple(filter(None, (evaluation.evaluate_observation(each) for each in said)))
        return EvaluationResult(evidence=pieces, changes=changes)

    def evaluate_crash(self, conn: Connection, *, facts: RunFacts, now: datetime) -> EvaluationResult:
        """Evaluates a run that ended by an error that nobody foresaw. It counts for `run_crashing` alone."""
        key = (Cause.RUN_CRASHING, "")
        current = self._current(conn, now, [Cause.RUN_CRASHING], None)
        known = key in current and current[key].state is not IncidentState.RESOLVED
        streak = incident_store.crash_streak(conn, target=self.target, at_most=_MAX_STREAK)
        piece = detect_crashing(streak, known=known)
        if piece is None:
            return EvaluationResult()
        change = self._evaluation(conn, facts, (piece,), current, now, keys=[key]).evaluate_runs(key)
        return EvaluationResult(evidence=(piece,), changes=(change,) if change else ())

    def _monitor_evidence(
        self, conn: Connection, facts: RunFacts, read: SyncReport | None, missed_runs: Evidence | None
    ) -> tuple[Evidence, ...]:
        if read is None:
            unread = Evidence(cause=Cause.SYNC_LOG_UNREADABLE, count=1)
            return (unread, missed_runs) if missed_runs else (unread,)
        unasked = incident_store.unasked_by_reason(conn, target=self.target) if facts.unknown else {}
        tracked_before = not read.tracked and incident_store.has_tracked_items(conn, target=self.target)
        pieces = (
            detect_too_many_unknown(facts.status, total=facts.total, unasked=unasked),
            detect_empty_sync_log(read, tracked_before=tracked_before),
            missed_runs,
        )
        return tuple(piece for piece in pieces if piece)

    def _missed_runs(self, conn: Connection, facts: RunFacts, started_at: datetime, incident: Incident | None) -> int:
        """Runs missed since the run before, but not from before this schedule was known to the database.

        A run that no daemon started may be made by hand: it does not reopen the incident for a gap that is over.
        """
        due = self.due_times
        if due is None:
            return 0
        known_since = incident_store.schedule_known_since(
            conn, target=self.target, name=due.name, started_at=started_at
        )
        previous = incident_store.previous_run(conn, target=self.target, before=facts.run_id)
        if previous is None or due.is_from_other_schedule(previous.run_key):
            return 0
        if not due.daemon_managed and _resolved_recently(incident, now=started_at):
            return 0
        return due.count_missed(max(previous.started_at, known_since), started_at)

    def _points(
        self, conn: Connection, keys: Sequence[IncidentKey], now: datetime
    ) -> Mapping[IncidentKey, Sequence[EvidencePoint]]:
        """What the runs say about causes, this run's evidence included."""
        if not keys:
            return {}
        rules = [self.rules[cause] for cause, _ in keys]
        window = max(rule.window for rule in rules)
        at_least = max(max(rule.of, rule.resolve_after) for rule in rules)
        return incident_store.evidence_points(
            conn, target=self.target, keys=keys, since=now - window, at_least=at_least
        )

    def _evaluation(
        self,
        conn: Connection,
        facts: RunFacts,
        pieces: Sequence[Evidence],
        current: Mapping[IncidentKey, Incident],
        now: datetime,
        *,
        keys: Sequence[IncidentKey] = (),
        points: Mapping[IncidentKey, Sequence[EvidencePoint]] | None = None,
    ) -> RunEvaluation:
        """Stores the evidence and reads what decisions need: about `keys` from runs, unless `points` are given."""
        ids = incident_store.add_evidence(conn, target=self.target, run_id=facts.run_id, at=now, pieces=pieces)
        if points is None:
            points = self._points(conn, keys, now)
        recorder = IncidentRecorder(
            conn=conn,
            target=self.target,
            environment=self.environment,
            route=self.route,
            now=now,
            run=facts,
            group_wait=self.group_wait,
            silences=silence_store.active(conn, now=now),
        )
        return RunEvaluation(
            rules=self.rules,
            membership=self.membership,
            conn=conn,
            recorder=recorder,
            now=now,
            evidence={piece.key: piece for piece in pieces},
            evidence_ids=ids,
            points=points,
            current=current,
            member_counts=members.counts(conn, target=self.target) if _has_item_incident(current) else {},
        )


def _inhibited(observation: Observation, *, inhibitors: Sequence[Evidence]) -> Observation:
    if observation.evidence is None:
        return observation
    (marked,) = mark_inhibited([observation.evidence], inhibitors)
    return mark_point(observation, marked.inhibited_by)


def _resolved_recently(incident: Incident | None, *, now: datetime) -> bool:
    return incident is not None and incident.resolved_at is not None and now - incident.resolved_at <= REOPEN_WITHIN


def _undecided(
    keys: Sequence[IncidentKey], pieces: Sequence[Evidence], current: Mapping[IncidentKey, Incident]
) -> list[IncidentKey]:
    """Those of the keys that a decision may change anything about; the run counts for each of them."""
    seen = {piece.key: piece for piece in pieces}
    return [key for key in keys if may_change(current.get(key), seen.get(key))]


def _has_item_incident(current: Mapping[IncidentKey, Incident]) -> bool:
    return any(each.cause in ITEM_CAUSES and each.state is not IncidentState.RESOLVED for each in current.values())


def _item_keys(pieces: Sequence[Evidence], current: Mapping[IncidentKey, Incident]) -> list[IncidentKey]:
    """The item causes and groups to decide about: those with evidence or an open incident."""
    seen = [piece.key for piece in pieces]
    still_open = [key for key, incident in current.items() if incident.state is not IncidentState.RESOLVED]
    return sorted({key for key in (*seen, *still_open) if key[0] in ITEM_CAUSES}, key=lambda key: (rank(key[0]), key))
