"""Laying out shares, and when a share may begin and a run is closed: pure rules."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW

from monitor.fleet.shares import (
    CLOSE_GRACE,
    MAX_PRIORITY,
    DueRange,
    ShareClaim,
    ShareProgress,
    ShareState,
    claim,
    is_over,
    is_to_close,
    lay_out,
    whole_report,
)
from monitor.model import Cause, Reason
from monitor.runs.partial_report import PartialReport

STALLED_AFTER = timedelta(seconds=30)
SECOND = timedelta(seconds=1)


def ranges(*oldest):
    return [
        DueRange(first_id=f"i{place}", items=10 + place, oldest_run_id=run_id, recheck_ids=(f"i{place}r",))
        for place, run_id in enumerate(oldest)
    ]


def test_shares_follow_each_other_and_the_last_has_no_end():
    first, second = lay_out(ranges(4, 4))
    assert (first.number, first.first_id, first.before_id, first.items) == (1, "i0", "i1", 10)
    assert (second.number, second.first_id, second.before_id, second.recheck_ids) == (2, "i1", None, ("i1r",))
    assert lay_out([]) == []


def test_the_share_with_the_item_unasked_for_longest_comes_first_and_of_equals_the_lower_ids():
    by_priority = sorted(lay_out(ranges(7, 3, 7, 0)), key=lambda share: -share.priority)
    assert [share.number for share in by_priority] == [4, 2, 1, 3]
    assert min(share.priority for share in by_priority) == 1


@pytest.mark.parametrize("count", [1, 2, 998, 999, 1000, 5000])
def test_the_priorities_of_many_shares_stay_below_those_of_plans(count):
    priorities = [share.priority for share in lay_out(ranges(*range(count)))]
    assert priorities == sorted(priorities, reverse=True)
    assert priorities[-1] == 1
    assert priorities[0] == min(count, MAX_PRIORITY)


@given(items=st.integers(1, 40), size=st.integers(1, 9), asked=st.lists(st.integers(1, 9), min_size=80, max_size=80))
def test_runs_that_are_always_cut_short_reach_every_item(items, size, asked):
    """Each run asks about a few items, in the order of shares and, in a share, of those unasked for longest."""
    last_run = dict.fromkeys(range(items), 0)
    for run_id, budget in enumerate(asked, start=1):
        cuts = [range(start, min(start + size, items)) for start in range(0, items, size)]
        laid_out = lay_out(
            [
                DueRange(first_id=f"{cut.start:03}", items=len(cut), oldest_run_id=min(last_run[n] for n in cut))
                for cut in cuts
            ]
        )
        in_order = [
            item
            for share in sorted(laid_out, key=lambda share: -share.priority)
            for item in sorted(cuts[share.number - 1], key=lambda item: (last_run[item], item))
        ]
        for item in in_order[:budget]:
            last_run[item] = run_id
    assert all(last_run.values()) or sum(asked) < items * size


WAITING, RUNNING = (ShareProgress(state=state, seen_at=NOW) for state in (ShareState.WAITING, ShareState.RUNNING))
SILENT = ShareProgress(state=ShareState.RUNNING, seen_at=NOW - STALLED_AFTER)
NEVER_SEEN = ShareProgress(state=ShareState.RUNNING, seen_at=None)
DONE, CUT = (ShareProgress(state=state, seen_at=NOW) for state in (ShareState.DONE, ShareState.CUT))

CLAIMS = {
    "it waits": (WAITING, False, ShareClaim.FREE),
    "another worker has it": (RUNNING, False, ShareClaim.IN_PROGRESS),
    "its worker is silent": (SILENT, False, ShareClaim.TAKEN_OVER),
    "its worker was never heard of": (NEVER_SEEN, False, ShareClaim.TAKEN_OVER),
    "it is done": (DONE, False, ShareClaim.ENDED),
    "the run was closed before": (CUT, False, ShareClaim.ENDED),
    "it waits, and the run ends": (WAITING, True, ShareClaim.OVER),
    "its worker is silent, and the run ends": (SILENT, True, ShareClaim.OVER),
    "another worker has it, and the run ends": (RUNNING, True, ShareClaim.IN_PROGRESS),
}


@pytest.mark.parametrize(("share", "over", "expected"), CLAIMS.values(), ids=CLAIMS)
def test_a_share_may_be_begun_while_nobody_has_it(share, over, expected):
    assert claim(share, over=over, now=NOW, stalled_after=STALLED_AFTER) is expected


LATER, PAST = NOW + SECOND, NOW - SECOND
CLOSES = {
    "all ended": ([DONE, CUT], False, LATER, True),
    "there is none": ([], False, LATER, True),
    "one waits": ([DONE, WAITING], False, LATER, False),
    "one is in progress": ([DONE, RUNNING], False, LATER, False),
    "one is silent, and may be taken over": ([SILENT], False, LATER, False),
    "stopped, and one waits": ([DONE, WAITING], True, LATER, True),
    "stopped, and one is in progress": ([WAITING, RUNNING], True, LATER, False),
    "stopped, and one is silent": ([WAITING, SILENT], True, LATER, True),
    "the deadline passed, and one waits": ([WAITING], False, PAST, True),
    "the deadline passed, and one is in progress": ([RUNNING], False, PAST, False),
    "the time after the deadline passed, and one is in progress": ([RUNNING], False, NOW - CLOSE_GRACE, True),
}


@pytest.mark.parametrize(("found", "stopped", "deadline_at", "expected"), CLOSES.values(), ids=CLOSES)
def test_a_run_is_closed_when_no_share_can_go_on(found, stopped, deadline_at, expected):
    due = is_to_close(found, stopped=stopped, deadline_at=deadline_at, now=NOW, stalled_after=STALLED_AFTER)
    assert due is expected


def test_a_run_is_over_when_it_was_stopped_or_its_deadline_came():
    assert is_over(stopped=True, deadline_at=LATER, now=NOW)
    assert is_over(stopped=False, deadline_at=NOW, now=NOW)
    assert not is_over(stopped=False, deadline_at=LATER, now=NOW)


def ends(report):
    checked = report.check_report()
    return checked.stopped_by, checked.cut_short_by, checked.asked


FIRST = PartialReport(asked=5)


def test_a_run_whose_shares_all_ended_is_complete():
    shares = [(ShareState.DONE, PartialReport(asked=3)), (ShareState.DONE, PartialReport(asked=4))]
    assert ends(whole_report(FIRST, shares, stopped_by=None)) == (None, None, 12)


def test_shares_that_were_cut_are_left_for_the_deadline():
    shares = [(ShareState.CUT, None), (ShareState.CUT, PartialReport(asked=4)), (ShareState.DONE, PartialReport())]
    assert ends(whole_report(FIRST, shares, stopped_by=None)) == (None, Reason.DEADLINE, 9)


def test_the_cause_that_was_noted_first_counts_also_if_its_share_was_lost():
    refused = PartialReport(left=True, stopped_by=Cause.UNAUTHORIZED)
    shares = [(ShareState.DONE, refused), (ShareState.CUT, None)]
    assert ends(whole_report(FIRST, shares, stopped_by=Cause.OUTAGE)) == (Cause.OUTAGE, None, 5)
    assert ends(whole_report(FIRST, [(ShareState.CUT, None)], stopped_by=Cause.UNAUTHORIZED))[0] is Cause.UNAUTHORIZED


def test_a_breaker_that_opened_over_the_last_items_stopped_nothing():
    tripped = PartialReport(stopped_by=Cause.OUTAGE, tripped=True)
    whole = whole_report(FIRST, [(ShareState.DONE, tripped)], stopped_by=Cause.OUTAGE)
    assert (whole.tripped, whole.left) == (True, False)
    lost = whole_report(FIRST, [(ShareState.CUT, None)], stopped_by=Cause.OUTAGE)
    assert (lost.tripped, lost.left) == (True, True)
    refused = whole_report(FIRST, [(ShareState.DONE, tripped)], stopped_by=Cause.UNAUTHORIZED)
    assert refused.tripped is False
