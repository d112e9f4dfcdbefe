from datetime import UTC, datetime

import pytest

from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import ApiError
from monitor.runs.outcomes import malformed_id_outcome
from monitor.runs.stop_rules import StopRule

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
