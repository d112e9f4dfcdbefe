"""The rules of a wait: intervals, what settles an item, what ends a wait, and what is counted."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW

from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import BREAKER_OPEN, ApiError, NetworkFault
from monitor.model.items import TrackedItem
from monitor.waits import rules
from monitor.waits.report import common_cause, item_report
from monitor.waits.rules import Tally, WaitResult, WatchedItem

MINUTE = timedelta(minutes=1)


def watched(item_id="a", *, seen=False, submitted_at=None, outcomes=(), settled=False):
    found = WatchedItem(item=TrackedItem(item_id=item_id, first_seen_at=NOW, submitted_at=submitted_at), seen=seen)
    for each in outcomes:
        found.observe(each)
    found.settled = settled
    return found


def outcome(state, *, error=None, reason=None, at=NOW, stage=None, item_id="a", **more):
    unknown = state is ItemState.UNKNOWN
    return Outcome(
        item_id=item_id, state=state, at=at, answered=not unknown, error=error, reason=reason, stage=stage, **more
    )


def unknown(cause, **error):
    return outcome(ItemState.UNKNOWN, reason=cause, error=ApiError(**{"status": None, **error}))


COMPLETED, FAILED = outcome(ItemState.COMPLETED, stage="done"), outcome(ItemState.FAILED, stage="bad")
PENDING, MISSING = outcome(ItemState.PENDING, stage="x"), outcome(ItemState.NOT_FOUND, error=ApiError(status=404))
REJECTED = outcome(ItemState.INVALID, error=ApiError(status=400, code="bad_id"))
DOWN = unknown(Cause.OUTAGE, status=503)

SETTLED = {
    "completed": (watched(), COMPLETED, True),
    "failed": (watched(), FAILED, True),
    "a rejected id": (watched(), REJECTED, True),
    "in progress": (watched(), PENDING, False),
    "a status that nobody has seen": (watched(), outcome(ItemState.PENDING, recognised=False), False),
    "an outage": (watched(), DOWN, False),
    "a rate limit": (watched(), unknown(Cause.RATE_LIMITED, status=429), False),
    "an unreadable body": (watched(), unknown(Cause.BAD_RESPONSE, status=200), False),
    "a 403 on it": (watched(), unknown(Cause.FORBIDDEN, status=403), True),
    "a wrong publisher": (watched(), unknown(Cause.WRONG_SCOPE, status=400), True),
    "a method that is not allowed": (watched(), unknown(Cause.BAD_REQUEST, status=405), True),
    "just uploaded, 404": (watched(), MISSING, False),
    "404 after it was seen": (watched(seen=True), MISSING, True),
    "404 for missing_after": (watched(), outcome(ItemState.NOT_FOUND, at=NOW + 15 * MINUTE), True),
    "404, nearly for missing_after": (watched(), outcome(ItemState.NOT_FOUND, at=NOW + 14 * MINUTE), False),
    "404, uploaded long ago": (watched(submitted_at=NOW - 15 * MINUTE), MISSING, True),
    "404, uploaded a while ago": (watched(submitted_at=NOW - 14 * MINUTE), MISSING, False),
    "404, uploaded in the future": (
        watched(submitted_at=NOW + 60 * MINUTE),
        outcome(ItemState.NOT_FOUND, at=NOW + 15 * MINUTE),
        True,
    ),
}


@pytest.mark.parametrize(("item", "found", "settled"), SETTLED.values(), ids=SETTLED)
def test_only_what_the_api_calls_final_settles_an_item(item, found, settled):
    assert rules.is_settled(item, found, started_at=NOW, missing_after=15 * MINUTE) is settled


STOPS = {
    "an answer": (COMPLETED, None),
    "a rejected key": (unknown(Cause.UNAUTHORIZED, status=401), Cause.UNAUTHORIZED),
    "a rejected secret": (unknown(Cause.UNAUTHORIZED, status=400, from_token_endpoint=True), Cause.UNAUTHORIZED),
    "a spending limit": (unknown(Cause.SPENDING_LIMIT, status=402), Cause.SPENDING_LIMIT),
    "an outage": (DOWN, None),
    "an outage of the token endpoint": (unknown(Cause.OUTAGE, status=503, from_token_endpoint=True), None),
    "a hint within the budget": (unknown(Cause.OUTAGE, status=503, retry_after=59 * timedelta(seconds=1)), None),
    "a hint beyond the budget": (unknown(Cause.RATE_LIMITED, status=429, retry_after=MINUTE), Cause.RATE_LIMITED),
    "a hint of what can't be retried": (unknown(Cause.FORBIDDEN, status=403, retry_after=MINUTE), None),
}


@pytest.mark.parametrize(("found", "cause"), STOPS.values(), ids=STOPS)
def test_a_wait_ends_early_where_waiting_does_not_help(found, cause):
    assert rules.stop_cause(found, left_s=60) is cause


def test_intervals_grow_up_to_a_quarter_of_a_minute():
    def seconds(looks, **more):
        return round(rules.interval_s(looks, **{"requests": 1, "rate_per_s": None, "rand": 0.5, **more}), 2)

    assert [seconds(looks) for looks in (1, 2, 3, 4, 8, 1000)] == [1.0, 1.5, 2.25, 3.38, 15.0, 15.0]
    assert (seconds(1, rand=0.0), seconds(1, rand=1.0)) == (0.9, 1.1)
    assert seconds(1, requests=10_000, rate_per_s=50.0) == 200.0
    assert seconds(5, requests=10, rate_per_s=50.0) == 5.06


def test_pauses_after_failures_double_up_to_a_tenth_of_the_budget_and_obey_a_hint():
    def seconds(failures, error=None, **more):
        return rules.pause_s(failures, error, **{"budget_s": 600, "rand": 1.0, **more})

    assert [seconds(failures) for failures in (1, 2, 3, 4, 5, 6, 99)] == [1, 2, 4, 8, 16, 30, 30]
    assert (seconds(1, rand=0.0), seconds(99, budget_s=20), seconds(99, budget_s=1)) == (0.5, 2, 1)
    assert seconds(1, ApiError(status=503, retry_after=MINUTE)) == 60
    assert seconds(1, ApiError(status=403, retry_after=MINUTE)) == 1


@pytest.mark.parametrize(
    ("due_s", "now_s", "deadline_s", "expected"),
    [
        pytest.param(5, 4, 100, 5, id="in time"),
        pytest.param(105, 90, 100, 98, id="two seconds before the end"),
        pytest.param(105, 98, 100, None, id="that was the last look"),
        pytest.param(11, 3, 10, 9, id="a tenth before the end of a short wait"),
    ],
)
def test_the_last_look_is_shortly_before_the_end(due_s, now_s, deadline_s, expected):
    assert rules.next_look_s(due_s, now_s=now_s, started_s=0, deadline_s=deadline_s) == expected


@given(st.floats(0, 1e5), st.floats(0, 1e4), st.floats(1, 1e4))
def test_no_look_is_planned_after_the_deadline_or_in_the_past(due_after_s, now_s, deadline_s):
    planned = rules.next_look_s(now_s + due_after_s, now_s=now_s, started_s=0, deadline_s=deadline_s)
    assert planned is None or now_s <= planned < deadline_s


def test_an_item_keeps_its_last_answer_beside_later_failures():
    item = watched(outcomes=[PENDING, DOWN, DOWN])
    assert (item.answer, item.failure, item.failures, item.looks, item.seen) == (PENDING, DOWN, 2, 3, True)
    item.observe(MISSING)
    assert (item.answer, item.failure, item.failures, item.seen) == (MISSING, None, 0, True)
    report = item_report(watched(outcomes=[PENDING, DOWN]))
    assert (report.state, report.stage, report.cause, report.error.status) == (
        ItemState.PENDING,
        "x",
        Cause.OUTAGE,
        503,
    )


COLUMNS = {
    "completed": watched(outcomes=[COMPLETED], settled=True),
    "failed": watched(outcomes=[FAILED], settled=True),
    "missing": watched(outcomes=[MISSING], settled=True),
    "invalid": watched(outcomes=[REJECTED], settled=True),
    "pending": watched(outcomes=[PENDING]),
    "unknown": watched(outcomes=[DOWN]),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_each_item_counts_once(column):
    item = COLUMNS[column]
    assert (rules.column_of(item), item_report(item).column) == (column, column)
    assert rules.tally([item]) == Tally(asked=1, **{column: 1})


@pytest.mark.parametrize(
    ("item", "column"),
    [
        pytest.param(watched(), "unknown", id="never asked"),
        pytest.param(watched(outcomes=[MISSING]), "pending", id="not found yet"),
        pytest.param(watched(outcomes=[MISSING, DOWN], settled=True), "pending", id="not found, then an outage"),
        pytest.param(watched(outcomes=[PENDING, DOWN]), "pending", id="pending, then an outage"),
    ],
)
def test_what_has_no_last_word_is_pending_or_unknown(item, column):
    assert rules.column_of(item) == column


def test_the_counts_of_a_wait():
    counts = rules.tally(COLUMNS.values())
    assert (counts.asked, counts.settled, counts.problems, counts.left) == (6, 4, 3, 2)


RESULTS = {
    "all completed": (Tally(asked=1, completed=1), {}, WaitResult.COMPLETED),
    "one failed": (Tally(asked=2, completed=1, failed=1), {}, WaitResult.FAILED),
    "one missing": (Tally(asked=1, missing=1), {}, WaitResult.FAILED),
    "one pending": (Tally(asked=2, failed=1, pending=1), {}, WaitResult.TIMED_OUT),
    "a rejected key": (Tally(asked=1, unknown=1), {"stopped": True}, WaitResult.STOPPED),
    "a signal": (Tally(asked=1, pending=1), {"interrupted": True, "stopped": True}, WaitResult.INTERRUPTED),
    "a signal after the last answer": (Tally(asked=1, completed=1), {"interrupted": True}, WaitResult.COMPLETED),
}


@pytest.mark.parametrize(("counts", "how", "result"), RESULTS.values(), ids=RESULTS)
def test_how_a_wait_ended(counts, how, result):
    assert rules.result_of(counts, **{"stopped": False, "interrupted": False, **how}) is result


def test_the_same_refusal_of_every_id_says_nothing_about_any():
    def refused(*outcomes):
        items = [
            watched(f"item-{number}", outcomes=[outcome(each.state, error=each.error, item_id=f"item-{number}")])
            for number, each in enumerate(outcomes)
        ]
        rules.settle_refusals(items)
        return [rules.column_of(each) for each in items], common_cause(items)

    assert refused(REJECTED, REJECTED) == (["unknown", "unknown"], Cause.BAD_REQUEST)
    assert refused(REJECTED, COMPLETED) == (["invalid", "completed"], None)
    assert refused(REJECTED) == (["invalid"], None)
    gone = outcome(ItemState.NOT_FOUND, error=ApiError(status=410))
    assert refused(gone, gone) == (["unknown", "unknown"], Cause.WRONG_SCOPE)


def test_only_a_refusal_of_the_breaker_was_not_sent():
    assert rules.was_not_sent(unknown(Cause.OUTAGE, code=BREAKER_OPEN))
    assert not rules.was_not_sent(unknown(Cause.OUTAGE, network=NetworkFault.RESET, code=BREAKER_OPEN))
    assert not rules.was_not_sent(COMPLETED)


def test_durations_fall_into_buckets():
    assert [rules.bucket_of(each) for each in (0, 5, 5.1, 600, 7200, 7201)] == [5, 5, 10, 600, 7200, 0]
