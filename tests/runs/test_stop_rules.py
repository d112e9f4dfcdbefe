from datetime import UTC, datetime, timedelta

import pytest

from monitor.model import Cause, ItemState, Outcome, Reason
from monitor.model.http import ApiError
from monitor.runs.outcomes import malformed_id_outcome
from monitor.runs.stop_rules import StopConditions, StopRule

AT = datetime(2026, 3, 1, tzinfo=UTC)


def refused(status, **fields):
    reasons = {401: Cause.UNAUTHORIZED, 403: Cause.FORBIDDEN, 429: Cause.SPENDING_LIMIT, 503: Cause.OUTAGE}
    error = ApiError(status=status, **fields)
    return Outcome(item_id="x", state=ItemState.UNKNOWN, reason=reasons[status], error=error, answered=False, at=AT)


DONE = Outcome(item_id="y", state=ItemState.COMPLETED, answered=True, at=AT)
ABSENT = Outcome(item_id="z", state=ItemState.NOT_FOUND, answered=True, error=ApiError(status=404), at=AT)

SEQUENCES = [
    ("one 401 that outlived its refresh", [DONE, refused(401)], Cause.UNAUTHORIZED),
    ("token request refused", [refused(401, from_token_endpoint=True)], Cause.UNAUTHORIZED),
    ("token endpoint down for good", [refused(503, from_token_endpoint=True)], Cause.OUTAGE),
    ("spending limit", [DONE, refused(429, code="SPENDING_LIMIT_EXCEEDED")], Cause.SPENDING_LIMIT),
    ("first five all 403", [refused(403)] * 5, Cause.FORBIDDEN),
    ("four 403", [refused(403)] * 4, None),
    ("a foreign item among many", [refused(403), DONE, refused(403), *[refused(403)] * 9], None),
    ("four 403, then a 404, then more", [*[refused(403)] * 4, ABSENT, *[refused(403)] * 9], None),
    (
        "quarantined ids are not asked and do not count",
        [malformed_id_outcome("?", AT), *[refused(403)] * 5],
        Cause.FORBIDDEN,
    ),
    ("any number of 503", [refused(503)] * 20, None),
]


@pytest.mark.parametrize(("outcomes", "cause"), [row[1:] for row in SEQUENCES], ids=[row[0] for row in SEQUENCES])
def test_what_stops_a_target(outcomes, cause):
    rule = StopRule()
    stopped = [rule.observe(outcome) for outcome in outcomes]
    assert next((each for each in stopped if each), None) is cause


PROBES = [
    ("one 403 is enough", [refused(403)], Cause.FORBIDDEN),
    ("an answer confirms access", [DONE, *[refused(403)] * 9], None),
    ("a 404 confirms access", [ABSENT, refused(403)], None),
    ("another failure says nothing", [refused(503), refused(403)], None),
    ("a 401", [refused(401)], Cause.UNAUTHORIZED),
]


@pytest.mark.parametrize(("outcomes", "cause"), [row[1:] for row in PROBES], ids=[row[0] for row in PROBES])
def test_what_stops_a_target_at_its_probe(outcomes, cause):
    rule = StopRule(first=1)
    stopped = [rule.observe(outcome) for outcome in outcomes]
    assert next((each for each in stopped if each), None) is cause


DEADLINE_S = 100.0


def test_five_items_come_first_and_the_rest_follow_an_answer():
    conditions = StopConditions(DEADLINE_S)
    assert [conditions.take_first_place() for _ in range(7)] == [True] * 5 + [False] * 2
    assert not conditions.all_admitted(0)
    conditions.observe(DONE, tripped=False, now_s=1)
    assert conditions.all_admitted(1)


def test_the_rest_follows_when_all_five_have_ended_in_whatever_way():
    conditions = StopConditions(DEADLINE_S)
    for _ in range(2):
        conditions.observe(refused(503), tripped=False, now_s=1)
    for _ in range(2):
        conditions.give_up()
    assert not conditions.all_admitted(1)
    conditions.give_up()
    assert conditions.all_admitted(1)
    assert not conditions.must_stop(1)


def test_nobody_waits_for_the_first_five_after_the_deadline():
    conditions = StopConditions(DEADLINE_S)
    assert not conditions.must_stop(DEADLINE_S - 1)
    assert conditions.all_admitted(DEADLINE_S)
    assert (conditions.stopped_by, conditions.cut_short_by) == (None, Reason.DEADLINE)


def test_the_first_cause_and_the_first_reason_count():
    conditions = StopConditions(DEADLINE_S)
    conditions.cut_short(Reason.INTERRUPTED)
    conditions.cut_short(Reason.DEADLINE)
    conditions.stop(Cause.FORBIDDEN)
    conditions.stop(Cause.OUTAGE)
    conditions.observe(refused(401), tripped=True, now_s=1)
    assert conditions.must_stop(0)
    assert (conditions.stopped_by, conditions.cut_short_by) == (Cause.FORBIDDEN, Reason.INTERRUPTED)


@pytest.mark.parametrize(
    ("outcome", "tripped", "cause"),
    [
        (refused(503), True, Cause.OUTAGE),
        (refused(503), False, None),
        (refused(401), True, Cause.UNAUTHORIZED),
        (refused(503, retry_after=timedelta(seconds=98)), False, None),
        (refused(503, retry_after=timedelta(seconds=99)), False, Cause.OUTAGE),
        (refused(401, retry_after=timedelta(seconds=99)), False, Cause.UNAUTHORIZED),
    ],
    ids=["breaker", "one 503", "a refusal before the breaker", "a hint in time", "a hint too late", "not transient"],
)
def test_what_one_outcome_stops(outcome, tripped, cause):
    conditions = StopConditions(DEADLINE_S)
    conditions.observe(outcome, tripped=tripped, now_s=1)
    assert conditions.stopped_by is cause


def test_a_403_after_confirmed_access_concerns_its_item_alone():
    confirmed, unknown = StopConditions(DEADLINE_S), StopConditions(DEADLINE_S)
    confirmed.confirm_access()
    for conditions in (confirmed, unknown):
        for _ in range(5):
            conditions.observe(refused(403), tripped=False, now_s=1)
    assert (confirmed.stopped_by, unknown.stopped_by) == (None, Cause.FORBIDDEN)


def test_one_403_stops_a_probe_and_five_stop_what_follows():
    conditions = StopConditions(DEADLINE_S)
    with conditions.probing():
        conditions.observe(refused(503), tripped=False, now_s=1)
    for _ in range(4):
        conditions.observe(refused(403), tripped=False, now_s=1)
    assert conditions.stopped_by is None
    other = StopConditions(DEADLINE_S)
    with other.probing():
        other.observe(refused(403), tripped=False, now_s=1)
    assert other.stopped_by is Cause.FORBIDDEN
