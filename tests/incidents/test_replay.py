"""The replay of one target, without a database: what it passes over changes nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.samples import NOW, incident

from monitor.incidents.decide import Action, EvidencePoint, decide, evolve
from monitor.incidents.openings import new_incident, with_channels
from monitor.incidents.past import (
    ComparedIncident,
    Difference,
    PastIncident,
    RecordedEvent,
    StateThen,
    compare,
    state_at,
)
from monitor.incidents.replay import TargetReplay
from monitor.incidents.replay_state import ReplayedEvidence, ReplayedRun, ReplayPlan
from monitor.incidents.rulebook import DEFAULT_RULES, counts_as_recovery, run_filter
from monitor.incidents.silences import apply_silences
from monitor.model import Cause, Evidence, IncidentState, Severity, Silence
from monitor.notifications.messages import MessageKind

MINUTE = timedelta(minutes=1)
OUTAGE, FAILED = Cause.OUTAGE, Cause.ITEMS_FAILED
KEY, ITEMS, BURN = (OUTAGE, ""), (FAILED, ""), (Cause.SLO_BURN, "fast")
SEEN, HIDDEN = ReplayedEvidence(OUTAGE, "", 3, inhibited=False), ReplayedEvidence(OUTAGE, "", 3, inhibited=True)


def plan(*, silences=(), rules=DEFAULT_RULES, channels=("oncall",), **changes):
    changed = {cause: replace(rule, **changes) for cause, rule in rules.items()} if changes else rules
    return ReplayPlan(target="gloo", environment="test", rules=changed, route=lambda _: channels, silences=silences)


def run(number, *, at=None, status="complete", due=30, answered=30, every=5):
    return ReplayedRun(number, "gloo", status, at or NOW + number * every * MINUTE, due, answered, answered, None)


def event(key, kind, number, *, run_id=None, **fields):
    return RecordedEvent(key=key, run_id=run_id, at=NOW + number * 5 * MINUTE, kind=kind, **fields)


def silence(start, end, **matchers):
    return Silence(
        id=1, matchers={name: (value,) for name, value in matchers.items()} or {"target": ("gloo",)},
        starts_at=NOW + start * MINUTE, ends_at=NOW + end * MINUTE,
    )  # fmt: skip


def played(replay, pattern, *, key=KEY, events=()):
    """Plays runs five minutes apart: `x` evidence, `m` inhibited, `.` none, `u` none that confirms recovery."""
    for number, kind in enumerate(pattern, 1):
        seen = {"x": False, "m": True}.get(kind)
        pieces = () if seen is None else (ReplayedEvidence(*key, 1, inhibited=seen),)
        answered = 0 if kind in "xu" and key is KEY else 30
        replay.run(run(number, answered=answered), pieces, [each for each in events if each.run_id == number])
    return replay.incidents


def kinds(past):
    return [message.kind.value for message in past.messages]


# --- the law of what is passed over


class Plain:
    """The same decisions run by run, over the lists that an evaluation reads: nothing is passed over."""

    def __init__(self, given_plan):
        self.plan, self.points, self.state, self.log = given_plan, [], None, []

    def run(self, each, piece):
        rule, criterion, now = self.plan.rules[OUTAGE], run_filter(OUTAGE).criterion, each.at
        point = EvidencePoint(
            run_id=each.id, at=now, evidence=piece is SEEN, inhibited=piece is HIDDEN,
            confirms_recovery=counts_as_recovery(
                criterion, due=each.due, replied=each.answered, accepted=each.accepted
            ),
        )  # fmt: skip
        self.points.insert(0, point)
        least = max(rule.of, rule.resolve_after)
        recent = [point for n, point in enumerate(self.points) if n < least or now - point.at <= rule.window]
        decision = decide(rule, self.state, recent, now=now)
        if decision.action in {Action.NOTHING, Action.WAIT, Action.INHIBIT}:
            return
        seen = Evidence(cause=OUTAGE, count=3) if piece is SEEN else None
        before = self.state
        if decision.action is Action.OPEN:
            before = new_incident(
                decision, rule, seen, target="gloo", environment="test", accepted=each.accepted > 0, now=now
            )
        decision = apply_silences(decision, before, self.plan.silences, now=now)
        after = before if decision.action is Action.OPEN else evolve(before, decision, now=now, evidence=seen)
        if decision.action in {Action.OPEN, Action.REOPEN}:
            after = with_channels(after, decision, self.plan.route, now=now)
        self.state = after
        if decision.action is not Action.CONTINUE:
            self.log.append((now, decision.action.value, after.channels))


def log(replay):
    names = {"opened": "open", "reminder": "remind", "resolved": "resolve"}
    return sorted(
        (message.at, names[message.kind.value], message.channels)
        for past in replay.incidents
        for message in past.messages
    )


RUNS = st.lists(
    st.tuples(st.sampled_from([None, None, SEEN, SEEN, HIDDEN]), st.sampled_from([30, 30, 3, 0]), st.integers(1, 90)),
    max_size=60,
)
NUMBERS = st.fixed_dictionaries(
    {
        "runs": st.integers(1, 4),
        "of": st.integers(4, 6),
        "window": st.sampled_from([10, 60, 600, 6000]).map(lambda minutes: minutes * MINUTE),
        "hold_for": st.sampled_from([0, 3, 30]).map(lambda minutes: minutes * MINUTE),
        "resolve_after": st.integers(1, 4),
        "repeat_interval": st.sampled_from([7, 240]).map(lambda minutes: minutes * MINUTE),
    }
)


@given(rows=RUNS, numbers=NUMBERS)
@settings(max_examples=60, deadline=None)
def test_what_is_passed_over_changes_nothing(rows, numbers):
    given_plan = plan(**numbers)
    replay, plain, at = TargetReplay(given_plan), Plain(given_plan), NOW
    for number, (piece, answered, minutes) in enumerate(rows, 1):
        at += minutes * MINUTE
        each = run(number, at=at, answered=answered)
        replay.run(each, (piece,) if piece else ())
        plain.run(each, piece)
    reopened = [(at, "reopen") for past in replay.incidents for at in past.reopened]
    expected = [(at, {"reopen": "open"}.get(action, action), channels) for at, action, channels in plain.log]
    assert log(replay) == sorted(expected)
    assert sorted(reopened) == [(at, action) for at, action, _ in plain.log if action == "reopen"]


def test_old_runs_are_forgotten_and_decide_nothing():
    replay = TargetReplay(plan())
    for number in range(1, 4_001):
        replay.run(run(number), (SEEN,) if number > 3_995 else ())
    assert len(replay._runs) < 1_500
    assert [past.opened_at for past in replay.incidents] == [NOW + 3_997 * 5 * MINUTE]


def test_runs_of_a_rare_status_are_kept_however_old_they_are():
    replay = TargetReplay(plan())
    replay.run(run(1), (SEEN,))
    replay.run(run(2), (SEEN,))
    replay.run(run(3))
    for number in range(4, 3_000):
        replay.run(run(number, status="failed"))
    replay.run(run(3_000))
    assert replay.incidents[0].resolved_at == NOW + 3_000 * 5 * MINUTE, "the second clean run that asked the API"


# --- silences


def test_the_delivery_after_the_first_run_without_a_silence_sends_the_opening():
    replay = TargetReplay(plan(silences=[silence(0, 18)]))
    (past,) = played(replay, "xxxxxx")
    assert [(message.at, message.kind) for message in past.messages] == [(NOW + 20 * MINUTE, MessageKind.OPENED)]
    assert past.opened_at == NOW + 5 * MINUTE


def test_a_recorded_delivery_says_when_the_opening_was_sent():
    replay = TargetReplay(plan(silences=[silence(0, 18)]))
    recorded = [event(KEY, "opened", 1, run_id=1)]
    played(replay, "xxxx", events=recorded)
    replay.between(KEY, event(KEY, "notified", 4, channels=("oncall",)))
    replay.run(run(5), (SEEN,))
    assert [message.at for message in replay.incidents[0].messages] == [NOW + 20 * MINUTE]
    replay.between(KEY, event(KEY, "notified", 6, channels=("oncall",)))
    assert len(replay.incidents[0].messages) == 1, "it was sent already"


# --- people


def test_what_people_did_takes_place_where_an_incident_is_open():
    replay = TargetReplay(plan())
    replay.between(KEY, event(KEY, "acknowledged", 0))
    played(replay, "xx")
    replay.between(KEY, event(KEY, "acknowledged", 2))
    replay.between(KEY, event(KEY, "acknowledged", 2))
    replay.between(KEY, event(KEY, "resolved", 2))
    (past,) = replay.incidents
    assert (past.acknowledged, past.resolved_at, replay.unmatched_actions) == (1, NOW + 10 * MINUTE, 2)
    assert kinds(past) == ["opened", "acknowledged", "resolved"]


# --- items


def recorded(*steps):
    return [event(ITEMS, kind, number, run_id=number, **fields) for number, kind, fields in steps]


def test_members_of_the_recorded_incident_are_evidence_for_a_stricter_rule():
    replay = TargetReplay(plan(runs=3, of=3))
    replay.warm_up(run(-1), ())
    replay.warm_up(run(0), ())
    steps = recorded((1, "joined", {"count": 2}), (1, "opened", {"channels": ("oncall",)}), (5, "left", {"count": 2}))
    (past,) = played(replay, "x......", key=ITEMS, events=steps)
    assert (past.opened_at, past.resolved_at) == (NOW + 15 * MINUTE, NOW + 25 * MINUTE)


def test_a_run_that_saw_nothing_is_no_evidence_of_items():
    replay = TargetReplay(plan(runs=2, of=2))
    replay.warm_up(run(0), ())
    events = recorded((1, "joined", {"count": 1}), (1, "opened", {"channels": ("oncall",)}))
    replay.run(run(1), (ReplayedEvidence(*ITEMS, 1, inhibited=False),), events)
    replay.run(run(2, answered=0))
    assert replay.incidents == []
    replay.run(run(3))
    replay.run(run(4))
    assert [past.opened_at for past in replay.incidents] == [NOW + 20 * MINUTE]


def test_an_inhibiting_cause_of_the_run_explains_members_too():
    missing = (Cause.ITEMS_MISSING, "")
    replay = TargetReplay(plan(runs=2, of=2))
    replay.warm_up(run(0), ())
    events = [event(missing, "joined", 1, run_id=1, count=1), event(missing, "opened", 1, run_id=1)]
    replay.run(run(1), (ReplayedEvidence(*missing, 1, inhibited=False),), events)
    replay.run(run(2), (ReplayedEvidence(Cause.WRONG_SCOPE, "", 9, inhibited=False),))
    assert [past.cause for past in replay.incidents] == []


# --- causes that no run is evidence of


def test_an_objective_opens_and_resolves_as_recorded_with_the_reminders_of_the_plan():
    replay = TargetReplay(plan(repeat_interval=10 * MINUTE))
    first = {"first_evidence_at": NOW, "severity": Severity.WARNING, "channels": ("was",)}
    events = [
        event(BURN, "resolved", 1, run_id=1),
        event(BURN, "opened", 2, run_id=2, **first),
        event(BURN, "updated", 6, run_id=6, severity=Severity.CRITICAL),
        event(BURN, "resolved", 7, run_id=7),
        event(BURN, "reopened", 8, run_id=8, **first),
    ]
    (past,) = played(replay, "........", events=events)
    assert (past.severity, past.first_evidence_at, past.group) == (Severity.WARNING, NOW, "fast")
    assert kinds(past) == ["opened", "reminder", "updated", "resolved", "opened"]
    assert {message.channels for message in past.messages} == {("oncall",)}


def test_a_configured_severity_is_kept():
    rules = {**DEFAULT_RULES, Cause.SLO_BURN: replace(DEFAULT_RULES[Cause.SLO_BURN], severity=Severity.INFO)}
    events = [event(BURN, "opened", 1, run_id=1, severity=Severity.CRITICAL)]
    (past,) = played(TargetReplay(plan(rules=rules)), ".", events=events)
    assert past.severity is Severity.INFO


def test_failing_channels_are_not_replayed():
    failing = (Cause.CHANNEL_FAILING, "")
    replay = TargetReplay(plan())
    replay.run(run(1), (ReplayedEvidence(*failing, 1, inhibited=False),), [event(failing, "opened", 1, run_id=1)])
    replay.warm_up(run(2), (ReplayedEvidence(*failing, 1, inhibited=False),))
    assert replay.incidents == []


def test_a_recorded_change_of_an_objective_without_an_opening_in_the_replay_is_left_out():
    events = [event(BURN, "updated", 1, run_id=1), event(BURN, "reopened", 2, run_id=2)]
    assert played(TargetReplay(plan()), "..", events=events) == []


def test_an_incident_of_before_reminds_and_resolves_in_the_period():
    replay = TargetReplay(plan(repeat_interval=10 * MINUTE))
    before = NOW - 60 * MINUTE
    open_then = incident(cause=OUTAGE, target="gloo", opened_at=before, last_evidence_at=before, last_message_at=before)
    replay.begin_with(StateThen(incident=open_then, members=0))
    (past,) = played(replay, "x..")
    assert (past.before, past.resolved_at) == (True, NOW + 15 * MINUTE)
    assert kinds(past) == ["reminder", "resolved"]


# --- the state at a moment, and comparisons


def test_the_state_at_a_moment_follows_the_events_before_it():
    events = [
        event(ITEMS, "joined", 1, run_id=1, count=3),
        event(ITEMS, "opened", 1, run_id=1),
        event(ITEMS, "silenced", 1, run_id=1, silence_id=4),
        event(ITEMS, "notified", 2, channels=("oncall",)),
        event(ITEMS, "joined", 3, run_id=3, count=2),
        event(ITEMS, "left", 3, run_id=3, count=1),
        event(ITEMS, "updated", 4, run_id=4, channels=("oncall",)),
        event(ITEMS, "acknowledged", 5, channels=("oncall",)),
        event(ITEMS, "resolved", 6, run_id=6, channels=("oncall",)),
        event(ITEMS, "reopened", 7, run_id=7, channels=("oncall",)),
        event(ITEMS, "other", 8),
    ]
    about = incident(cause=FAILED)
    found = [state_at(about, events, NOW + (number * 5 + 1) * MINUTE) for number in range(9)]
    assert [each.members for each in found] == [0, 3, 3, 4, 4, 4, 0, 0, 0]
    assert [each.incident.silence_id for each in found[:3]] == [None, 4, None]
    assert [each.incident.unnotified_count for each in found[2:5]] == [0, 2, 0]
    assert [each.incident.state for each in found[4:8]] == [
        IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED, IncidentState.OPEN,
    ]  # fmt: skip
    assert found[4].incident.last_message_at == NOW + 20 * MINUTE


def past(start, end=None, **fields):
    values = {"severity": Severity.WARNING, "group": "", "cause": OUTAGE, "first_evidence_at": NOW, **fields}
    resolved = None if end is None else NOW + end * MINUTE
    return PastIncident(target="gloo", opened_at=NOW + start * MINUTE, resolved_at=resolved, **values)


def test_incidents_that_overlap_are_the_same():
    pairs = compare([past(0, 10), past(20, 30), past(60)], [past(0, 10), past(25, 40), past(45, 50), past(60)])
    assert [pair.difference for pair in pairs] == [
        Difference.SAME, Difference.MOVED, Difference.ADDED, Difference.SAME,
    ]  # fmt: skip
    assert (pairs[1].opened_later, pairs[1].resolved_later) == (5 * MINUTE, 10 * MINUTE)
    assert (pairs[2].opened_later, pairs[2].resolved_later) == (timedelta(0), None)
    (removed,) = compare([past(0, 10)], [past(11, 12, group="x")])[:1]
    assert removed.difference is Difference.REMOVED
    (other,) = compare([past(0, 10)], [past(0, 10, severity=Severity.INFO)])
    assert other.difference is Difference.MESSAGES


def test_a_comparison_has_an_incident():
    empty = ComparedIncident(difference=Difference.SAME, actual=None, replayed=None)
    with pytest.raises(ValueError, match="at least one"):
        assert empty.either
