from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.incidents.gate import ClosingIncident, GateReason, check_gate
from monitor.model import Cause, rank
from monitor.model.schedule import DueTimes

NOW = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIVE = DueTimes(every=5 * MINUTE)


def ask(*unresolved, last=NOW - MINUTE, now=NOW, due_times=FIVE):
    return check_gate("gloo-prod", unresolved=unresolved, last_run_at=last, due_times=due_times, now=now)


def closed(cause, number=3, since=NOW - 20 * MINUTE):
    return ClosingIncident(cause=cause, incident_id=number, since=since)


@pytest.mark.parametrize("cause", Cause)
def test_only_causes_that_more_requests_make_worse_close_the_gate(cause):
    said = ask(closed(cause))
    closing = {"spending_limit", "unauthorized", "wrong_scope", "rate_limited", "outage"}
    assert said.proceed is (cause not in closing)
    assert said.reason is (GateReason.CLEAR if said.proceed else GateReason.INCIDENT)


FORBIDDEN = [
    ("nothing was accepted", False, None, False),
    ("it stopped the last run", True, Cause.FORBIDDEN, False),
    ("one item among others", True, None, True),
    ("one item, and an outage stopped the last run", True, Cause.OUTAGE, True),
    ("opened before this was stored", None, None, True),
]


@pytest.mark.parametrize(
    ("accepted", "last_abort", "proceed"), [row[1:] for row in FORBIDDEN], ids=[row[0] for row in FORBIDDEN]
)
def test_forbidden_closes_it_only_if_it_concerns_the_whole_target(accepted, last_abort, proceed):
    incident = ClosingIncident(cause=Cause.FORBIDDEN, incident_id=3, since=NOW, accepted=accepted)
    said = check_gate(
        "gloo-prod", unresolved=[incident], last_run_at=NOW - MINUTE, due_times=FIVE, now=NOW, last_abort=last_abort
    )
    assert said.proceed is proceed


TEXTS = [
    (ask(), "proceed: no outage, limit or refusal is known; the last run of gloo-prod ended 03:29 UTC"),
    (ask(closed(Cause.OUTAGE)), "pause: outage since 03:10 UTC (incident 3): the API is failing or can't be reached"),
    (
        ask(closed(Cause.RATE_LIMITED, since=NOW - timedelta(days=1))),
        "pause: rate_limited since 2026-02-28 03:30 UTC (incident 3): the API limits the request rate",
    ),
    (ask(last=None), "pause: stale: no run of gloo-prod has asked the API yet"),
    (
        ask(last=NOW - 12 * MINUTE),
        (
            "pause: stale since 03:28 UTC: the last run of gloo-prod that asked the API ended 03:18 UTC, "
            "more than two intervals ago"
        ),
    ),
]


@pytest.mark.parametrize(("said", "text"), TEXTS, ids=[said.reason + str(n) for n, (said, _) in enumerate(TEXTS)])
def test_the_reason_is_one_line(said, text):
    assert said.text == text


def test_of_several_incidents_the_highest_ranked_is_named_and_all_are_given():
    said = ask(closed(Cause.OUTAGE, 1), closed(Cause.ITEMS_STUCK, 2), closed(Cause.SPENDING_LIMIT, 4))
    assert [each.incident_id for each in said.by] == [4, 1]
    assert "spending_limit" in said.text


def test_an_incident_takes_precedence_over_stale():
    assert ask(closed(Cause.OUTAGE), last=None).reason is GateReason.INCIDENT


STALE = [(9.9, True), (10, False), (600, False), (-5, True)]


@pytest.mark.parametrize(("minutes", "proceed"), STALE)
def test_the_gate_closes_two_intervals_after_the_last_run(minutes, proceed):
    said = ask(last=NOW - minutes * MINUTE)
    assert said.proceed is proceed
    assert said.since == (None if proceed else NOW - (minutes - 10) * MINUTE)


def test_a_schedule_without_further_times_is_never_stale():
    assert ask(last=NOW - timedelta(days=900), due_times=DueTimes(cron="0 0 */29 2 MON#5")).proceed


@given(st.lists(st.builds(closed, st.sampled_from(Cause), st.integers(1, 99))), st.integers(0, 30), st.randoms())
def test_the_order_of_incidents_does_not_matter(incidents, minutes, random):
    shuffled = list(incidents)
    random.shuffle(shuffled)
    one, other = ask(*incidents, last=NOW - minutes * MINUTE), ask(*shuffled, last=NOW - minutes * MINUTE)
    assert (one.reason, {each.cause for each in one.by}) == (other.reason, {each.cause for each in other.by})
    assert [rank(each.cause) for each in one.by] == sorted(rank(each.cause) for each in one.by)
    assert one.proceed is (minutes < 10 and not any(each.closes(None) for each in incidents))
