import pytest

from monitor.incidents.rulebook import Vouching, vouches, witness
from monitor.model import ITEM_CAUSES, REQUEST_CAUSES, Cause, RunStatus

COMPLETE, PARTIAL, ABORTED, UNREAD = RunStatus.COMPLETE, RunStatus.PARTIAL, RunStatus.ABORTED, RunStatus.UNREAD

ENOUGH = [
    ("all of a few", Vouching.ANSWERED, 5, 5, True),
    ("not all of a few", Vouching.ANSWERED, 5, 4, False),
    ("twenty of many", Vouching.ANSWERED, 1000, 20, True),
    ("nineteen of many", Vouching.ANSWERED, 1000, 19, False),
    ("an empty work list vouches for nothing", Vouching.ANSWERED, 0, 0, False),
    ("an empty work list says nothing about the log either", Vouching.READ, 0, 0, False),
    ("reading ids vouches for the log though the API is down", Vouching.READ, 1000, 0, True),
    ("having run is enough where it is about that", Vouching.RAN, 0, 0, True),
]


@pytest.mark.parametrize(("vouching", "due", "answered", "enough"), [e[1:] for e in ENOUGH], ids=[e[0] for e in ENOUGH])
def test_when_silence_speaks_for_recovery(vouching, due, answered, enough):
    assert vouches(vouching, due=due, answered=answered) is enough


@pytest.mark.parametrize(
    ("cause", "statuses"),
    [
        *((cause, {COMPLETE, PARTIAL, ABORTED}) for cause in REQUEST_CAUSES + ITEM_CAUSES),
        (Cause.COVERAGE, {COMPLETE, PARTIAL}),
        (Cause.SYNC_LOG_UNREADABLE, {COMPLETE, PARTIAL, ABORTED, UNREAD}),
        (Cause.SYNC_LOG_EMPTY, {COMPLETE, PARTIAL, ABORTED}),
        (Cause.RUN_MISSED, {COMPLETE, PARTIAL, ABORTED, UNREAD}),
    ],
)
def test_which_runs_say_anything(cause, statuses):
    assert witness(cause).statuses == statuses
