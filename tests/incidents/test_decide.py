"""Decisions besides the tables of docs/incidents.md, which test_incidents_doc.py tests."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW, evidence_points

from monitor.incidents.decide import Action, DecisionReason, ThresholdCount, count_evidence, decide, evolve, may_change
from monitor.incidents.rulebook import DEFAULT_RULES, Rule, severity_of
from monitor.model import Cause, Evidence, Incident, IncidentState, Severity, Team

MINUTE = timedelta(minutes=1)
TWO_OF_TWO = Rule(cause=Cause.UNAUTHORIZED, team=Team.CREDENTIALS, runs=2, of=2)
THREE_OF_FIVE = Rule(cause=Cause.RATE_LIMITED, team=Team.OPERATIONS, runs=3, of=5)
OUTAGE = DEFAULT_RULES[Cause.OUTAGE]
AT_ONCE = DEFAULT_RULES[Cause.ITEMS_FAILED]


def incident(**fields):
    defaults = {
        "id": 1, "target": "t", "environment": "e", "cause": Cause.UNAUTHORIZED, "state": IncidentState.OPEN,
        "severity": Severity.CRITICAL, "team": Team.CREDENTIALS, "opened_at": NOW - timedelta(hours=1),
        "first_evidence_at": NOW - timedelta(hours=1), "last_evidence_at": NOW - timedelta(minutes=30),
        "last_message_at": NOW - timedelta(hours=1),
    }  # fmt: skip
    return Incident(**{**defaults, **fields})


def test_without_runs_nothing_is_decided():
    assert decide(TWO_OF_TWO, None, [], now=NOW).reason is DecisionReason.NO_EVIDENCE


def test_an_opening_knows_when_the_evidence_began():
    decision = decide(TWO_OF_TWO, None, evidence_points(".xx"), now=NOW)
    assert decision.first_evidence_at == NOW - 5 * MINUTE


def test_evidence_from_before_the_resolution_does_not_open_it_again():
    rule = replace(TWO_OF_TWO, of=5)
    before = incident(state=IncidentState.RESOLVED, resolved_at=NOW - timedelta(seconds=150))
    assert decide(rule, None, evidence_points("xx..x", every=MINUTE), now=NOW).action is Action.OPEN
    assert decide(rule, before, evidence_points("xx..x", every=MINUTE), now=NOW).action is Action.WAIT


def test_clean_runs_from_before_the_evidence_do_not_count():
    state = incident(last_evidence_at=NOW - 2 * MINUTE)
    assert decide(TWO_OF_TWO, state, evidence_points("...", every=MINUTE), now=NOW).action is Action.RESOLVE
    assert decide(TWO_OF_TWO, state, evidence_points("...", every=2 * MINUTE), now=NOW).action is Action.CONTINUE


def test_an_incident_that_was_never_notified_reminds_by_its_opening():
    state = incident(cause=Cause.ITEMS_FAILED, last_message_at=None, opened_at=NOW - timedelta(days=2))
    assert decide(AT_ONCE, state, evidence_points("..x"), now=NOW, members=1).action is Action.REMIND


def test_a_request_cause_reminds_after_four_hours():
    state = incident(last_message_at=NOW - timedelta(hours=4), last_evidence_at=NOW - 5 * MINUTE)
    assert decide(TWO_OF_TWO, state, evidence_points("xx"), now=NOW).action is Action.REMIND


def apply(rule, state, decision, now, evidence):
    if decision.action is Action.OPEN:
        return incident(
            cause=rule.cause, opened_at=now, first_evidence_at=decision.first_evidence_at, last_evidence_at=now,
            last_message_at=now, evidence=evidence, peak_count=evidence.count,
        )  # fmt: skip
    if state is None or decision.action in {Action.NOTHING, Action.WAIT, Action.INHIBIT}:
        return state
    return evolve(state, decision, now=now, evidence=evidence)


@given(st.text("x.m?", min_size=1, max_size=60), st.sampled_from([TWO_OF_TWO, THREE_OF_FIVE, OUTAGE]))
def test_deciding_twice_on_unchanged_state_changes_nothing(pattern, rule):
    state = None
    for end in range(1, len(pattern) + 1):
        now = NOW + end * MINUTE
        found = evidence_points(pattern[:end], every=MINUTE, now=now)
        seen = Evidence(cause=rule.cause, count=1) if found[0].evidence else None
        state = apply(rule, state, decide(rule, state, found, now=now), now, seen)
        again = decide(rule, state, found, now=now)
        assert again.action in {Action.NOTHING, Action.WAIT, Action.INHIBIT, Action.CONTINUE}
        assert apply(rule, state, again, now, seen) == state


@given(
    st.text("x.m?", max_size=30),
    st.booleans(),
    st.sampled_from([TWO_OF_TWO, THREE_OF_FIVE, OUTAGE, AT_ONCE]),
    st.none() | st.integers(0, 90).map(lambda ago: NOW - ago * MINUTE),
)
def test_where_a_run_may_change_nothing_the_runs_before_it_decide_nothing(pattern, inhibited, rule, resolved_at):
    """So the close of a run need not read them."""
    before = incident(state=IncidentState.RESOLVED, resolved_at=resolved_at) if resolved_at else None
    newest = Evidence(cause=rule.cause, count=1, inhibited_by=Cause.OUTAGE) if inhibited else None
    assert not may_change(before, newest)
    run = replace(evidence_points(".")[0], evidence=False, inhibited=inhibited)
    decision = decide(rule, before, [run, *evidence_points(f"{pattern}.")[1:]], now=NOW)
    assert decision.action in {Action.NOTHING, Action.INHIBIT}


def test_what_is_open_or_has_evidence_of_its_own_may_change():
    seen = Evidence(cause=Cause.UNAUTHORIZED, count=1)
    assert may_change(None, seen)
    assert may_change(incident(), None)
    assert may_change(incident(state=IncidentState.ACKNOWLEDGED), replace(seen, inhibited_by=Cause.OUTAGE))


@given(st.text("x.?", min_size=1, max_size=60))
def test_openings_and_resolutions_alternate(pattern):
    state, resolutions = None, []
    for end in range(1, len(pattern) + 1):
        now = NOW + end * MINUTE
        found = evidence_points(pattern[:end], every=MINUTE, now=now)
        decision = decide(TWO_OF_TWO, state, found, now=now)
        state = apply(
            TWO_OF_TWO, state, decision, now, Evidence(cause=TWO_OF_TWO.cause, count=1) if found[0].evidence else None
        )
        if decision.action in {Action.OPEN, Action.REOPEN, Action.RESOLVE}:
            resolutions.append(decision.action is Action.RESOLVE)
    assert resolutions == [n % 2 == 1 for n in range(len(resolutions))]


def test_evolving_keeps_the_highest_count_and_the_newest_evidence():
    piece = Evidence(cause=Cause.OUTAGE, count=40)
    state = incident(cause=Cause.OUTAGE, peak_count=7)
    went_on = decide(OUTAGE, state, evidence_points("xx"), now=NOW)
    after = evolve(state, went_on, now=NOW, evidence=piece)
    assert (after.peak_count, after.last_evidence_at, after.evidence) == (40, NOW, piece)


def test_inhibited_evidence_does_not_keep_an_incident_open():
    piece = Evidence(cause=Cause.FORBIDDEN, count=4, inhibited_by=Cause.UNAUTHORIZED)
    state = incident(cause=Cause.FORBIDDEN)
    after = evolve(state, decide(TWO_OF_TWO, state, evidence_points("xm"), now=NOW), now=NOW, evidence=piece)
    assert after.last_evidence_at == state.last_evidence_at
    assert after.evidence is None


def test_resolving_and_reopening_set_the_state_and_the_time_of_the_last_message():
    resolved = evolve(incident(), decide(TWO_OF_TWO, incident(), evidence_points(".."), now=NOW), now=NOW)
    assert (resolved.state, resolved.resolved_at, resolved.last_message_at) == (IncidentState.RESOLVED, NOW, NOW)
    later = NOW + 10 * MINUTE
    back = decide(TWO_OF_TWO, resolved, evidence_points("xx", now=later), now=later)
    again = evolve(resolved, back, now=later, evidence=Evidence(cause=Cause.UNAUTHORIZED, count=1))
    assert (again.state, again.resolved_at, again.id) == (IncidentState.OPEN, None, resolved.id)


def test_every_cause_has_a_rule():
    assert set(DEFAULT_RULES) == set(Cause)
    assert all(rule.cause is cause and rule.runs <= rule.of for cause, rule in DEFAULT_RULES.items())


FORBIDDEN = DEFAULT_RULES[Cause.FORBIDDEN]
URGENCY = {
    "one document is denied": (FORBIDDEN, True, Severity.WARNING),
    "everything is denied": (FORBIDDEN, False, Severity.CRITICAL),
    "everything is denied, and a rule sets the severity": (
        Rule(cause=Cause.FORBIDDEN, team=Team.ACCOUNT, severity=Severity.INFO),
        False,
        Severity.INFO,
    ),
    "another cause in a run without an answer": (THREE_OF_FIVE, False, Severity.WARNING),
}


@pytest.mark.parametrize(("rule", "accepted", "severity"), URGENCY.values(), ids=URGENCY)
def test_a_denial_of_everything_is_critical(rule, accepted, severity):
    assert severity_of(rule, accepted=accepted) is severity


def test_a_clock_that_was_set_back_does_not_keep_an_incident_open():
    """The evidence was stored while the clock was a day ahead; later runs count nevertheless."""
    ahead = NOW + timedelta(days=1)
    found = [*evidence_points("..", every=MINUTE, now=NOW), *evidence_points("xx", every=MINUTE, now=ahead)]
    state = incident(last_evidence_at=ahead)
    assert decide(TWO_OF_TWO, state, found, now=NOW).action is Action.RESOLVE
    assert decide(TWO_OF_TWO, state, found[1:], now=NOW - MINUTE).action is Action.CONTINUE


def test_evidence_of_a_run_that_is_not_loaded_is_older_than_the_loaded_runs():
    past = incident(last_evidence_at=NOW - timedelta(days=3))
    assert decide(TWO_OF_TWO, past, evidence_points(".."), now=NOW).action is Action.RESOLVE
    future = incident(last_evidence_at=NOW + timedelta(days=1))
    assert decide(TWO_OF_TWO, future, evidence_points(".."), now=NOW).action is Action.RESOLVE


def test_for_counts_as_elapsed_if_the_clock_was_set_back():
    found = [*evidence_points("x", now=NOW), *evidence_points("x", now=NOW + timedelta(days=1))]
    assert decide(OUTAGE, None, found, now=NOW).action is Action.OPEN


@pytest.mark.parametrize(("pattern", "seen"), [("x", 1), ("xxx.", 0), (".x", 1), ("", 0)])
def test_evidence_of_single_items_is_that_of_the_newest_run(pattern, seen):
    rule = DEFAULT_RULES[Cause.ITEMS_UNVERIFIED]
    found = count_evidence(rule, evidence_points(pattern), NOW)
    assert found == ThresholdCount(seen=seen, of=1, needed=1)
