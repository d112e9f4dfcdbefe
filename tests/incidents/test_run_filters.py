import pytest

from monitor.incidents.rulebook import RecoveryCriterion, counts_as_recovery, run_filter
from monitor.model import ITEM_CAUSES, REQUEST_CAUSES, Cause, RunStatus

COMPLETE, PARTIAL, ABORTED, FAILED = RunStatus.COMPLETE, RunStatus.PARTIAL, RunStatus.ABORTED, RunStatus.FAILED

ENOUGH = [
    ("all of a few", RecoveryCriterion.ANSWERED, 5, 5, True),
    ("not all of a few", RecoveryCriterion.ANSWERED, 5, 4, False),
    ("twenty of many", RecoveryCriterion.ANSWERED, 1000, 20, True),
    ("nineteen of many", RecoveryCriterion.ANSWERED, 1000, 19, False),
    ("an empty work list confirms nothing", RecoveryCriterion.ANSWERED, 0, 0, False),
    ("an empty work list says nothing about the log either", RecoveryCriterion.READ, 0, 0, False),
    ("reading ids confirms the log while the API is down", RecoveryCriterion.READ, 1000, 0, True),
    ("having run is enough where it is about that", RecoveryCriterion.RAN, 0, 0, True),
]


@pytest.mark.parametrize(
    ("criterion", "due", "answered", "confirms_recovery"), [e[1:] for e in ENOUGH], ids=[e[0] for e in ENOUGH]
)
def test_which_runs_confirm_recovery(criterion, due, answered, confirms_recovery):
    assert counts_as_recovery(criterion, due=due, answered=answered) is confirms_recovery


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
