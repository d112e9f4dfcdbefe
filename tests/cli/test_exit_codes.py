import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports.samples import INCIDENT, a_report

from monitor.cli.exit_codes import FailOn, combine_exit_codes, exit_code_of
from monitor.model import RunStatus, Snapshot

CODES = [2, 3, 4, 1, 5, 0]
SICK = Snapshot(completed=1, pending=2, failed=1, unknown=1, stuck=1)
WELL = Snapshot(completed=3)
SETTLING = Snapshot(completed=3, pending=1, not_found=2, invalid=1)


@pytest.mark.parametrize(
    ("report", "fail_on", "code"),
    [
        (a_report(snapshot=WELL), {*FailOn}, 0),
        (a_report(snapshot=SICK, open_incidents=(INCIDENT,)), set(), 0),
        (a_report(snapshot=SICK), {FailOn.FAILED}, 1),
        (a_report(snapshot=SICK), {FailOn.STUCK}, 1),
        (a_report(snapshot=SICK), {FailOn.UNKNOWN}, 1),
        (a_report(snapshot=SETTLING), {FailOn.PENDING}, 1),
        (a_report(snapshot=SETTLING), {FailOn.NOT_FOUND}, 1),
        (a_report(snapshot=SETTLING), {FailOn.INVALID}, 1),
        (a_report(snapshot=SETTLING), {FailOn.FAILED, FailOn.STUCK, FailOn.UNKNOWN}, 0),
        (a_report(snapshot=SICK), {FailOn.INCIDENT}, 0),
        (a_report(snapshot=WELL, open_incidents=(INCIDENT,)), {FailOn.INCIDENT}, 1),
        (a_report(snapshot=WELL, open_incidents=(INCIDENT,)), {FailOn.FAILED, FailOn.STUCK, FailOn.UNKNOWN}, 0),
        (a_report(snapshot=SICK, status=RunStatus.PARTIAL, abort_reason="deadline"), {*FailOn}, 4),
        (a_report(snapshot=SICK, status=RunStatus.ABORTED, abort_reason="outage"), set(), 4),
        (a_report(snapshot=None, status=RunStatus.FAILED, error="it is gone"), {*FailOn}, 3),
    ],
    ids=[
        "well", "sick-but-not-asked", "failed", "stuck", "unknown", "pending", "not-found", "invalid",
        "others", "no-incident", "incident", "only-an-incident",
        "partial", "aborted", "failed",
    ],
)  # fmt: skip
def test_a_run_has_its_exit_code(report, fail_on, code):
    assert exit_code_of(report, frozenset(fail_on)) == code


@pytest.mark.parametrize(("first", "second"), list(itertools.pairwise(CODES)), ids=str)
def test_the_more_severe_code_of_two_targets_wins_in_either_order(first, second):
    assert combine_exit_codes([first, second]) == combine_exit_codes([second, first]) == first


def test_no_target_is_code_0():
    assert combine_exit_codes([]) == 0


@given(st.lists(st.sampled_from(CODES), min_size=1))
def test_codes_rank_2_3_4_1_5_0(codes):
    assert combine_exit_codes(codes) == next(code for code in CODES if code in codes)
