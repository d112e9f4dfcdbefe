import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import REQUEST_CAUSES, Cause
from monitor.runs.strategy import (
    SAMPLE_SIZE,
    ApproachReason,
    Strategy,
    choose_approach,
    list_failure_ends_run,
    list_is_wrong,
    needs_sample,
)

CHOICES = [
    ("auto, few due", Strategy.AUTO, True, 50, False, ApproachReason.FEW_DUE),
    ("auto, over fifty due", Strategy.AUTO, True, 51, True, ApproachReason.MANY_DUE),
    ("auto without a list", Strategy.AUTO, False, 5000, False, ApproachReason.NO_LIST),
    ("items", Strategy.ITEMS, True, 5000, False, ApproachReason.CONFIGURED),
    ("list, whatever is due", Strategy.LIST, True, 1, True, ApproachReason.CONFIGURED),
    ("list without a list", Strategy.LIST, False, 5000, False, ApproachReason.NO_LIST),
]


@pytest.mark.parametrize(
    ("strategy", "has_list", "due", "by_list", "why"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES]
)
def test_the_list_is_chosen_by_strategy_and_number_of_due_items(strategy, has_list, due, by_list, why):
    approach = choose_approach(strategy, has_list=has_list, due=due)
    assert (approach.by_list, approach.reason) == (by_list, why)


@pytest.mark.parametrize(
    ("tracked", "lacking", "much"),
    [(100, 21, True), (100, 20, False), (30, 20, False), (1000, 200, False), (1000, 201, True), (21, 21, True)],
)
def test_a_sample_is_needed_if_over_a_fifth_and_over_twenty_are_missing(tracked, lacking, much):
    assert needs_sample(tracked=tracked, missing=lacking) is much


@pytest.mark.parametrize(
    ("existing", "absent", "dropped"),
    [(20, 0, True), (10, 10, True), (9, 11, False), (1, 19, False), (0, 20, False), (0, 0, False), (1, 0, True)],
)
def test_a_list_is_wrong_if_half_of_the_missing_items_exist(existing, absent, dropped):
    assert list_is_wrong(existing=existing, absent=absent) is dropped


@given(st.integers(0, SAMPLE_SIZE), st.integers(0, SAMPLE_SIZE))
def test_more_existing_items_never_make_a_wrong_list_right(existing, absent):
    if list_is_wrong(existing=existing, absent=absent):
        assert list_is_wrong(existing=existing + 1, absent=absent)


@pytest.mark.parametrize("cause", REQUEST_CAUSES)
def test_with_strategy_list_a_failed_list_ends_the_run(cause):
    assert list_failure_ends_run(Strategy.LIST, cause)


@pytest.mark.parametrize("cause", REQUEST_CAUSES)
def test_auto_continues_item_by_item_unless_the_cause_affects_each_item(cause):
    meets_all = {Cause.UNAUTHORIZED, Cause.SPENDING_LIMIT, Cause.RATE_LIMITED}
    assert list_failure_ends_run(Strategy.AUTO, cause) is (cause in meets_all)
