"""The timeline of an incident: recorded events take precedence, and the replayed rules fill in the rest."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.samples import NOW, incident

from monitor.incidents.decide import Action, DecisionReason, EvidencePoint, ThresholdCount
from monitor.incidents.explain import IncidentHistory, ObservedRun, TimelineEvent, fold, replay, timeline
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, Evidence, IncidentState, RunStatus

MINUTE = timedelta(minutes=1)
RULE = DEFAULT_RULES[Cause.UNAUTHORIZED]
ITEMS = DEFAULT_RULES[Cause.ITEMS_FAILED]


def at(number):
    return NOW + number * 5 * MINUTE


def seen(pattern, cause=Cause.UNAUTHORIZED):
    """Runs five minutes apart, the first is run 1: `x` evidence, `m` inhibited, `.` none, `u` does not count."""
    return [
        ObservedRun(
            run_id=number,
            at=at(number),
            status=RunStatus.FAILED if kind == "u" else RunStatus.COMPLETE,
            point=None
            if kind == "u"
            else EvidencePoint(run_id=number, at=at(number), evidence=kind == "x", inhibited=kind == "m"),
            evidence=Evidence(cause=cause, count=3) if kind in "xm" else None,
        )
        for number, kind in enumerate(pattern, 1)
    ]


def event(number, kind, reason="as it was", **data):
    """Recorded by a run."""
    return TimelineEvent(at=at(number), kind=kind, reason=reason, run_id=number, data=data)


def history(pattern, *events, rule=RULE, first=None, then=None, previous=None, **fields):
    about = incident(cause=rule.cause, **{"first_evidence_at": at(first or 1), "opened_at": at(first or 1), **fields})
    return IncidentHistory(
        incident=about,
        previous=previous,
        runs=seen(pattern, rule.cause),
        events=events,
        rule=rule,
        rule_at_opening=then or rule,
    )


def decisions(history):
    """Run (or None), action and reason."""
    return [(entry.run and entry.run.run_id, entry.action, entry.reason) for entry in replay(history)]


NOTHING = (Action.NOTHING, DecisionReason.NO_EVIDENCE.value)
STILL = (Action.CONTINUE, DecisionReason.STILL_OPEN.value)


def test_recorded_decisions_take_precedence_over_replayed_ones():
    found = decisions(history(".xxmx..", event(3, "opened"), event(7, "resolved", "enough")))
    assert found == [
        (1, *NOTHING),
        (2, Action.WAIT, DecisionReason.BELOW_THRESHOLD.value),
        (3, Action.OPEN, "as it was"),
        (4, *STILL),
        (5, *STILL),
        (6, *STILL),
        (7, Action.RESOLVE, "enough"),
    ]


def test_entries_count_evidence_and_clean_runs():
    entries = list(replay(history(".xx.", event(3, "opened"))))
    assert [entry.threshold for entry in entries] == [
        ThresholdCount(seen=0, of=1, needed=1),
        ThresholdCount(seen=1, of=2, needed=2),
        ThresholdCount(seen=2, of=2, needed=2),
        None,
    ]
    assert [entry.clean for entry in entries] == [None, None, None, (1, 2)]
    assert [entry.members for entry in entries] == [None] * 4


def test_inhibited_evidence_is_shown_as_inhibited():
    assert decisions(history("m"))[0][1:] == (Action.INHIBIT, DecisionReason.INHIBITED.value)


def test_a_run_that_does_not_count_decides_nothing():
    entries = list(replay(history(".uxxu", event(4, "opened"))))
    assert [entry.action for entry in entries] == [Action.NOTHING, None, Action.WAIT, Action.OPEN, None]
    assert {entries[n].reason for n in (1, 4)} == {"this run does not count for this cause"}
    assert entries[1].threshold is None


def test_members_are_counted_by_joined_and_left_events():
    joined = event(2, "joined", count=3)
    events = (joined, event(2, "opened"), event(3, "left", count=1), event(3, "joined", count=2), event(5, "resolved"))
    entries = list(replay(history(".x.x.", *events, rule=ITEMS, first=2)))
    assert [entry.members for entry in entries] == [None, None, 4, 4, 4]
    assert [entry.action for entry in entries][2:4] == [Action.CONTINUE] * 2
    assert [entry.clean for entry in entries] == [None] * 5


def test_a_silenced_reminder_is_shown_as_silenced_until_it_is_sent():
    silenced = event(50, "silenced", silence_id=7)
    ended = TimelineEvent(at=at(53) + MINUTE, kind="notified", reason="silence 7 ended")
    entries = decisions(history(".x" + "x" * 53, event(2, "opened"), silenced, ended))
    assert [entry[1:] for entry in entries[2:49]] == [STILL] * 47, "no reminder is due yet"
    assert [entry[1:] for entry in entries[49:53]] == [(Action.CONTINUE, "silenced")] * 4
    assert entries[53] == (None, None, "silence 7 ended")
    assert [entry[1:] for entry in entries[54:]] == [STILL] * 2


def test_reminders_of_a_silenced_opening_are_shown_as_silenced():
    events = (event(2, "opened"), event(2, "silenced", silence_id=7))
    entries = decisions(history(".x" + "x" * 50, *events))
    assert entries[1] == (2, Action.OPEN, "as it was")
    assert (entries[48][1:], entries[49][1:]) == (STILL, (Action.CONTINUE, "silenced"))


def test_a_decision_that_was_not_recorded_is_marked_and_has_no_effect():
    entries = decisions(history("xxx", event(3, "opened"), first=1))
    said = f"not recorded; by the rule it would be: open, {DecisionReason.THRESHOLD_MET.value}"
    assert entries[:2] == [(1, Action.WAIT, said), (2, Action.WAIT, said)]
    late = decisions(history("xx" + "x" * 50, event(2, "opened"), first=1))
    assert late[-1][1] is Action.CONTINUE
    assert late[-1][2].endswith(f"remind, {DecisionReason.REMINDER_DUE.value}")


def test_the_opening_uses_the_rule_of_that_time_and_the_rest_the_present_one():
    then = replace(RULE, runs=1, of=1)
    entries = list(replay(history("x..", event(1, "opened"), rule=replace(RULE, resolve_after=9), then=then)))
    assert entries[0].threshold == ThresholdCount(seen=1, of=1, needed=1)
    assert entries[2].clean == (2, 9)


def test_operator_actions_are_shown_between_the_runs_and_take_effect():
    taken = TimelineEvent(at=at(2) + MINUTE, kind="acknowledged", reason="acknowledged by ana")
    over = TimelineEvent(at=at(60) + MINUTE, kind="resolved", reason="resolved manually by ana")
    entries = decisions(history("xx" + "x" * 59, event(2, "opened"), taken, over, first=1))
    assert entries[2] == (None, Action.ACKNOWLEDGE, "acknowledged by ana")
    assert [entry[1:] for entry in entries[3:61]] == [STILL] * 58, "no reminder is due any more"
    assert entries[61] == (None, Action.RESOLVE, "resolved manually by ana")
    assert len(entries) == 63


def test_evidence_of_the_previous_incident_does_not_count():
    previous = incident(id=0, state=IncidentState.RESOLVED, resolved_at=at(2))
    entries = decisions(history("xx.xx", event(5, "opened"), previous=replace(previous, resolved_at=at(3)), first=4))
    assert entries[3] == (4, Action.WAIT, DecisionReason.BELOW_THRESHOLD.value)
    assert entries[4] == (5, Action.OPEN, "as it was")


def test_an_incident_without_runs_is_shown_by_its_events():
    events = [
        TimelineEvent(at=at(1), kind=kind, reason=kind)
        for kind in ("opened", "reminded", "resolved", "reopened", "notified")
    ]
    entries = decisions(history("", *events))
    assert [entry[1] for entry in entries] == [
        Action.OPEN, Action.REMIND, Action.RESOLVE, Action.REOPEN, None
    ]  # fmt: skip


def test_inconsistent_events_raise_nothing():
    odd = [
        event(1, "joined", count="many"),
        event(1, "resolved"),
        event(2, "notified"),
        event(2, "silenced", silence_id="x"),
    ]
    assert decisions(history("xx", *odd))[0] == (1, Action.RESOLVE, "as it was")


def test_the_timeline_begins_a_few_runs_before_the_first_evidence():
    entries = timeline(history("......xx", event(8, "opened"), first=7))
    assert [entry.run.run_id for entry in entries] == [4, 5, 6, 7, 8]
    assert [entry.run.run_id for entry in timeline(history("....", first=9))] == [2, 3, 4]
    assert [entry.run.run_id for entry in timeline(history("xx", first=1))] == [1, 2]


FOLDS = [
    ("a long stretch is one", "xx" + "x" * 6, [(1, 1), (2, 2), (3, 8)]),
    ("evidence that comes and goes stays in it", "xx" + "x.xx.xx", [(1, 1), (2, 2), (3, 9)]),
    ("two are no stretch", "xx" + "xx", [(1, 1), (2, 2), (3, 3), (4, 4)]),
    ("the runs that may lead to the end stand by themselves", "xx" + "xxxx.", [(1, 1), (2, 2), (3, 6), (7, 7)]),
]


@pytest.mark.parametrize(("pattern", "expected"), [each[1:] for each in FOLDS], ids=[each[0] for each in FOLDS])
def test_stretches_of_equal_runs_are_folded(pattern, expected):
    parts = list(fold(timeline(history(pattern, event(2, "opened"), first=1))))
    assert [(part[0].run.run_id, part[-1].run.run_id) for part in parts] == expected


def test_the_clean_runs_before_a_resolution_are_not_folded():
    rule = replace(RULE, resolve_after=3)
    parts = list(fold(timeline(history("xxxxx...", event(2, "opened"), event(8, "resolved"), rule=rule, first=1))))
    assert [(part[0].run.run_id, part[-1].run.run_id) for part in parts] == [
        (1, 1), (2, 2), (3, 5), (6, 6), (7, 7), (8, 8)
    ]  # fmt: skip


def test_runs_with_different_member_counts_are_not_folded():
    events = (event(1, "joined", count=2), event(1, "opened"), event(5, "left", count=1))
    parts = list(fold(timeline(history("x........", *events, rule=ITEMS, first=1))))
    assert [(part[0].run.run_id, part[-1].members) for part in parts] == [(1, None), (2, 2), (5, 1), (6, 1)]
