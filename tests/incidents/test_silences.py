"""How silences and operator actions change decisions, and why no message is sent: pure functions."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW, incident

from monitor.incidents.decide import (
    Action,
    Decision,
    DecisionReason,
    EvidencePoint,
    OperatorAction,
    acknowledge,
    decide,
    evolve,
    resolve_manually,
)
from monitor.incidents.rulebook import DEFAULT_RULES, rule_parameters, with_parameters
from monitor.incidents.silences import active_silence, apply_silences, describe_silence_end, suppression_reasons
from monitor.model import Cause, Evidence, IncidentState, Silence
from monitor.notifications.messages import MessageKind, render

HOUR = timedelta(hours=1)
RULE = DEFAULT_RULES[Cause.UNAUTHORIZED]
OPEN, ACKNOWLEDGED, RESOLVED = IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED


def silence(number=3, *, start=-1, end=4, comment="", by=None, **matchers):
    """A silence from `start` to `end`, in hours from now; of everything on gloo-prod by default."""
    patterns = {name: (value,) for name, value in matchers.items()} or {"target": ("gloo-prod",)}
    return Silence(
        id=number, matchers=patterns, starts_at=NOW + start * HOUR, ends_at=NOW + end * HOUR, comment=comment,
        author="ana", expired_by=by,
    )  # fmt: skip


def decision(action, reason=DecisionReason.STILL_OPEN):
    return Decision(cause=Cause.UNAUTHORIZED, action=action, reason=reason)


OPENINGS = [Action.OPEN, Action.REOPEN]
REPEATS = [Action.UPDATE, Action.REMIND]
OTHERS = [each for each in Action if each not in OPENINGS + REPEATS]


@pytest.mark.parametrize("action", OPENINGS)
def test_a_silenced_opening_stays_an_opening_and_names_the_silence(action):
    assert apply_silences(decision(action), incident(), [silence()], now=NOW) == replace(decision(action), silence_id=3)


@pytest.mark.parametrize("action", REPEATS)
def test_a_silenced_update_or_reminder_waits(action):
    silenced = apply_silences(decision(action), incident(), [silence()], now=NOW)
    assert silenced == replace(decision(Action.CONTINUE, DecisionReason.SILENCED), silence_id=3)


@pytest.mark.parametrize("action", REPEATS)
def test_no_update_or_reminder_is_sent_before_the_opening(action):
    never_notified = incident(silence_id=3, channels=())
    over = silence(end=0)
    assert apply_silences(decision(action), never_notified, [over], now=NOW) == decision(
        Action.CONTINUE, DecisionReason.OPENING_DUE
    )


@pytest.mark.parametrize("action", OTHERS)
def test_silences_change_no_other_decision(action):
    assert apply_silences(decision(action), incident(), [silence()], now=NOW) == decision(action)


@pytest.mark.parametrize("action", OPENINGS + REPEATS)
@pytest.mark.parametrize(
    "other",
    [silence(end=0), silence(start=1), silence(cause="outage"), silence(target="gloo-dev"), silence(group="sermons")],
    ids=["over", "to come", "another cause", "another target", "a group"],
)
def test_an_inactive_silence_changes_nothing(action, other):
    assert apply_silences(decision(action), incident(), [other], now=NOW) == decision(action)


def test_a_silence_includes_its_start_and_excludes_its_end():
    assert active_silence(incident(), [silence(start=0)], now=NOW).id == 3
    assert active_silence(incident(), [silence(end=0)], now=NOW) is None


def test_of_several_silences_the_one_that_silenced_the_opening_counts_else_the_longest():
    both = [silence(3, end=1), silence(4, end=2)]
    assert active_silence(incident(), both, now=NOW).id == 4
    assert active_silence(incident(silence_id=3), both, now=NOW).id == 3
    assert active_silence(incident(silence_id=3), [silence(3, end=0), silence(4)], now=NOW).id == 4


def test_any_group_of_the_items_may_match():
    assert active_silence(incident(groups=("songs", "sermons")), [silence(group="serm*")], now=NOW) is not None


def test_why_a_silence_has_no_effect_any_more():
    assert describe_silence_end(silence(end=0), now=NOW) == "silence 3 ended"
    assert describe_silence_end(silence(end=0, by="bo"), now=NOW) == "silence 3 was ended by bo"
    assert describe_silence_end(silence(), now=NOW) == "silence 3 no longer matches"


@given(
    st.text("x.m?", min_size=1, max_size=50), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=3)
)
def test_deciding_twice_on_unchanged_state_changes_nothing_with_silences_either(pattern, spans):
    """Runs an hour apart: reminders come due, and silences come and go."""
    silences = [silence(number, start=a, end=b) for number, (a, b) in enumerate(spans, 1)]
    state, points = None, []
    for number, kind in enumerate(pattern):
        now = NOW + number * HOUR
        points.insert(
            0,
            EvidencePoint(
                run_id=number, at=now, evidence=kind == "x", inhibited=kind == "m", confirms_recovery=kind != "?"
            ),
        )
        seen = Evidence(cause=Cause.UNAUTHORIZED, count=1) if kind == "x" else None

        def decided(state, now=now):
            plain = decide(RULE, state, points, now=now)
            return apply_silences(plain, state or incident(), silences, now=now)

        first = decided(state)
        if first.action is Action.OPEN:
            at = None if first.silence_id else now
            state = incident(
                opened_at=now, last_evidence_at=now, last_message_at=at, silence_id=first.silence_id, evidence=seen,
                peak_count=1,
            )  # fmt: skip
        elif first.action not in {Action.NOTHING, Action.WAIT, Action.INHIBIT}:
            state = evolve(state, first, now=now, evidence=seen)
        again = decided(state)
        assert again.action in {Action.NOTHING, Action.WAIT, Action.INHIBIT, Action.CONTINUE}
        if again.action is Action.CONTINUE:
            assert evolve(state, again, now=now, evidence=seen) == state


def test_a_silenced_reopening_has_no_channels_and_no_acknowledgement():
    over = incident(
        state=RESOLVED, resolved_at=NOW, acknowledged_at=NOW, acknowledged_by="ana", last_message_at=NOW - HOUR
    )
    silenced = evolve(over, replace(decision(Action.REOPEN), silence_id=3), now=NOW + HOUR)
    assert (silenced.state, silenced.silence_id, silenced.channels) == (OPEN, 3, ())
    assert (silenced.acknowledged_at, silenced.acknowledged_by, silenced.resolved_at) == (None, None, None)
    assert silenced.last_message_at == NOW - HOUR
    after = evolve(replace(over, silence_id=2), decision(Action.REOPEN), now=NOW + HOUR)
    assert (after.silence_id, after.channels, after.last_message_at) == (None, ("oncall",), NOW + HOUR)


def test_the_resolution_of_an_incident_that_was_never_notified_is_not_a_message():
    never_notified = incident(silence_id=3, channels=(), last_message_at=None, unnotified_count=2)
    over = evolve(never_notified, decision(Action.RESOLVE), now=NOW)
    assert (over.state, over.resolved_at, over.silence_id, over.last_message_at) == (RESOLVED, NOW, 3, None)


def test_an_acknowledgement_keeps_everything_but_the_state():
    before = incident(member_count=3, peak_count=5, unnotified_count=1, last_message_at=NOW - HOUR)
    after = evolve(before, acknowledge(before), now=NOW, members=3, by="ana")
    assert after == replace(before, state=ACKNOWLEDGED, acknowledged_at=NOW, acknowledged_by="ana")


HANDLED = [
    (OPEN, Action.ACKNOWLEDGE, DecisionReason.ACKNOWLEDGED, Action.RESOLVE, DecisionReason.RESOLVED_MANUALLY),
    (
        ACKNOWLEDGED,
        Action.NOTHING,
        DecisionReason.ALREADY_ACKNOWLEDGED,
        Action.RESOLVE,
        DecisionReason.RESOLVED_MANUALLY,
    ),
    (RESOLVED, Action.NOTHING, DecisionReason.ALREADY_RESOLVED, Action.NOTHING, DecisionReason.ALREADY_RESOLVED),
]


@pytest.mark.parametrize(
    ("state", "ack", "why_ack", "end", "why_end"), HANDLED, ids=[each[0].value for each in HANDLED]
)
def test_decisions_about_an_operator_action(state, ack, why_ack, end, why_end):
    there = incident(state=state)
    assert acknowledge(there) == decision(ack, why_ack)
    assert resolve_manually(there) == decision(end, why_end)


def test_an_operator_action_is_shown_with_its_comment():
    assert (OperatorAction(by="ana").reason, OperatorAction(by="ana").resolution_facts) == (
        "by ana",
        (("resolved by", "ana"),),
    )
    action = OperatorAction(by="ana", comment="on it")
    assert (action.reason, action.resolution_facts) == ("by ana: on it", (("resolved by", "ana"), ("comment", "on it")))


def test_messages_say_who_acknowledged_or_resolved():
    taken = incident(**TAKEN)
    message = render(MessageKind.ACKNOWLEDGED, taken, None, now=NOW, notes=(("comment", "on it"),))
    assert message.facts[1:3] == (("acknowledged", "by ana, 2026-03-01 12:00:00 UTC"), ("comment", "on it"))
    nameless = render(MessageKind.UPDATED, replace(taken, acknowledged_by=None), None, now=NOW)
    assert nameless.facts[1] == ("acknowledged", "by somebody, 2026-03-01 12:00:00 UTC")
    over = render(MessageKind.RESOLVED, replace(taken, state=RESOLVED), None, now=NOW, notes=(("resolved by", "ana"),))
    assert [label for label, _ in over.facts] == ["since", "duration", "resolved by"]


TAKEN = {"state": ACKNOWLEDGED, "acknowledged_at": NOW, "acknowledged_by": "ana"}
ATTENTION = [
    ("open", {}, [], ()),
    ("acknowledged", TAKEN, [], ("acknowledged by ana, 2026-03-01 12:00:00 UTC",)),
    ("by an unknown person", {**TAKEN, "acknowledged_by": None}, [],
     ("acknowledged by somebody, 2026-03-01 12:00:00 UTC",)),
    ("notified, then silenced", {}, [silence()], ("silenced by silence 3 until 2026-03-01 16:00 UTC",)),
    ("silenced from the start", {"silence_id": 3}, [silence(comment="deploy")],
     ("silenced by silence 3 until 2026-03-01 16:00 UTC (deploy); not notified yet",)),
    ("about to be notified", {"silence_id": 3}, [],
     ("silence 3 has ended: the opening is sent with the next delivery",)),
    ("both", TAKEN, [silence()],
     ("acknowledged by ana, 2026-03-01 12:00:00 UTC", "silenced by silence 3 until 2026-03-01 16:00 UTC")),
    ("resolved", {"state": RESOLVED}, [silence()], ()),
    ("resolved, and never notified", {"state": RESOLVED, "silence_id": 3}, [silence()],
     ("never notified, because of silence 3",)),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "holding", "said"), [e[1:] for e in ATTENTION], ids=[e[0] for e in ATTENTION])
def test_why_no_message_comes(fields, holding, said):
    assert suppression_reasons(incident(**fields), holding) == said


def test_stored_rule_parameters_are_restored_and_missing_ones_stay():
    outage = DEFAULT_RULES[Cause.OUTAGE]
    other = replace(outage, runs=3, of=5, window=2 * HOUR, hold_for=HOUR, resolve_after=4, repeat_interval=HOUR)
    assert with_parameters(outage, rule_parameters(other)) == other
    assert with_parameters(outage, {"runs": 7}) == replace(outage, runs=7)
    assert with_parameters(outage, None) == outage
