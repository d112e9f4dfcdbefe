from datetime import UTC, datetime

import pytest

from monitor.incidents.evidence import EvidenceCollector
from monitor.incidents.rulebook import RecoveryCriterion, counts_as_recovery, run_filter
from monitor.model import ITEM_CAUSES, REQUEST_CAUSES, BadBody, Cause, ItemState, ItemStatus, RunStatus
from monitor.model.http import ApiError, NetworkFault, Reply
from monitor.model.items import TrackedItem
from monitor.runs.outcomes import outcome_from_error, outcome_from_status

AT = datetime(2026, 3, 1, tzinfo=UTC)

COMPLETE, PARTIAL, ABORTED, FAILED = RunStatus.COMPLETE, RunStatus.PARTIAL, RunStatus.ABORTED, RunStatus.FAILED

ENOUGH = [
    ("all of a few", RecoveryCriterion.ACCEPTED, 5, (5, 5), True),
    ("not all of a few", RecoveryCriterion.ACCEPTED, 5, (5, 4), False),
    ("twenty of many", RecoveryCriterion.ACCEPTED, 1000, (20, 20), True),
    ("nineteen of many", RecoveryCriterion.ACCEPTED, 1000, (1000, 19), False),
    ("refusals show that the service works", RecoveryCriterion.REPLIED, 1000, (20, 0), True),
    ("a run of an earlier version", RecoveryCriterion.ACCEPTED, 5, (5, None), True),
    ("an empty work list confirms nothing", RecoveryCriterion.ACCEPTED, 0, (0, 0), False),
    ("an empty work list says nothing about the log either", RecoveryCriterion.READ, 0, (0, 0), False),
    ("reading ids confirms the log while the API is down", RecoveryCriterion.READ, 1000, (0, 0), True),
    ("having run is enough where it is about that", RecoveryCriterion.RAN, 0, (0, 0), True),
]


@pytest.mark.parametrize(
    ("criterion", "due", "counts", "confirms_recovery"), [e[1:] for e in ENOUGH], ids=[e[0] for e in ENOUGH]
)
def test_which_runs_confirm_recovery(criterion, due, counts, confirms_recovery):
    replied, accepted = counts
    assert counts_as_recovery(criterion, due=due, replied=replied, accepted=accepted) is confirms_recovery


OK, ABSENT, INVALID = Reply(status=200, headers={}, body=b"{}"), ApiError(status=404), ApiError(status=422)
CACHED = Reply(status=200, headers={"age": "90"}, body=b"{}")
SEEN = {
    "200": OK, "404": ABSENT, "422": INVALID, "200 of a cache": CACHED,
    "401": ApiError(status=401), "402": ApiError(status=402), "403": ApiError(status=403),
    "429, spending limit": ApiError(status=429, code="SPENDING_LIMIT_EXCEEDED"),
    "429": ApiError(status=429), "408": ApiError(status=408), "503": ApiError(status=503),
    "timeout": ApiError(status=None, network=NetworkFault.TIMEOUT), "302": ApiError(status=302),
    "a login page": Reply(status=200, headers={}, body=b"<html><title>Log in</title></html>"),
    "a gateway's 404": ApiError(status=404, page="404 page not found"),
    "a gateway's 403": ApiError(status=403, page="403 Forbidden"),
    "401 from the token endpoint": ApiError(status=401, from_token_endpoint=True),
    "400 publisher_not_found": ApiError(status=400, code="publisher_not_found"),
}  # fmt: skip
"""What a run of 25 items sees, for each of them."""

SHOWS_ACCESS = {"200", "404", "422"}
SHOWS_SERVICE = SHOWS_ACCESS | {"401", "402", "403", "400 publisher_not_found"}


@pytest.mark.parametrize("cause", REQUEST_CAUSES)
@pytest.mark.parametrize("seen", SEEN)
def test_only_what_shows_the_opposite_of_a_cause_confirms_that_it_has_ended(cause, seen):
    """Every pair of an open incident and what a run saw: a 503 says nothing about a revoked key, nor does a limit."""
    gathered = EvidenceCollector()
    for n in range(25):
        answer = SEEN[seen]
        if isinstance(answer, Reply):
            outcome = outcome_from_status(f"i{n}", answer, _read(answer.body), AT)
        else:
            outcome = outcome_from_error(f"i{n}", answer, AT)
        gathered.add(TrackedItem(item_id=f"i{n}", first_seen_at=AT), outcome)
    confirms = counts_as_recovery(
        run_filter(cause).criterion, due=25, replied=gathered.replied, accepted=gathered.accepted
    )
    assert confirms is (seen in (SHOWS_SERVICE if cause is Cause.OUTAGE else SHOWS_ACCESS))


def _read(body):
    if body.startswith(b"<"):
        return BadBody(reason="it is not JSON")
    return ItemStatus(state=ItemState.COMPLETED, stage="DONE")


@pytest.mark.parametrize(
    ("cause", "statuses"),
    [
        *((cause, {COMPLETE, PARTIAL, ABORTED}) for cause in REQUEST_CAUSES + ITEM_CAUSES),
        (Cause.TOO_MANY_UNKNOWN, {COMPLETE, PARTIAL}),
        (Cause.SYNC_LOG_UNREADABLE, {COMPLETE, PARTIAL, ABORTED, FAILED}),
        (Cause.SYNC_LOG_EMPTY, {COMPLETE, PARTIAL, ABORTED}),
        (Cause.RUN_MISSED, {COMPLETE, PARTIAL, ABORTED, FAILED}),
        (Cause.RUN_CRASHING, {COMPLETE, PARTIAL, ABORTED, FAILED, RunStatus.CRASHED}),
    ],
)
def test_which_runs_count(cause, statuses):
    assert run_filter(cause).statuses == statuses
