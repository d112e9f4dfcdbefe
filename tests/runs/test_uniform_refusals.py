import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW

from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import ApiError, Meaning
from monitor.model.items import TrackedItem
from monitor.runs.uniform_refusals import MAX_HELD, UniformRefusals


def refused(status=400, *, state=ItemState.INVALID, message="no", meaning=None):
    return state, ApiError(status=status, message=message, meaning=meaning)


def gone(message="v1 is retired"):
    return refused(410, state=ItemState.NOT_FOUND, message=message)


FINE = ItemState.COMPLETED, None
MISSING = refused(404, state=ItemState.NOT_FOUND)
DOWN = ItemState.UNKNOWN, ApiError(status=503)


def settle(*answers, confirmed=False):
    """State and reason of each item at the end of a run with these answers."""
    refusals, found = UniformRefusals(), {}
    if confirmed:
        refusals.settle()
    for n, (state, error) in enumerate(answers):
        item = TrackedItem(item_id=f"i{n}", first_seen_at=NOW)
        known = state is not ItemState.UNKNOWN
        reason = None if known else Cause.OUTAGE
        outcome = Outcome(item_id=item.item_id, state=state, error=error, answered=known, reason=reason, at=NOW)
        found |= {o.item_id: (o.state.value, o.reason) for _, o in refusals.add(item, outcome)}
    found |= {o.item_id: (o.state.value, o.reason) for _, o in refusals.drain()}
    assert len(found) == len(answers)
    return [found[f"i{n}"] for n in range(len(answers))]


INVALID, NOT_FOUND = ("invalid", None), ("not_found", None)
REJECTED, RETIRED = ("unknown", Cause.BAD_REQUEST), ("unknown", Cause.WRONG_SCOPE)
OK, UNREACHED = ("completed", None), ("unknown", Cause.OUTAGE)

RUNS = {
    "400 for everything": ([refused()] * 3, [REJECTED] * 3),
    "400 with a message about each": ([refused(message="a"), refused(422, message="b")], [REJECTED] * 2),
    "400 for one item alone": ([refused()], [INVALID]),
    "400 for some, before the first good one": ([refused(), refused(), FINE], [INVALID, INVALID, OK]),
    "400 for some, after it": ([FINE, refused(), refused()], [OK, INVALID, INVALID]),
    "400 for some, 404 for others": ([refused(), refused(), MISSING], [INVALID, INVALID, NOT_FOUND]),
    "400 for all that were reached": ([refused(), DOWN, refused()], [REJECTED, UNREACHED, REJECTED]),
    "410 for everything with one message": ([gone()] * 2, [RETIRED] * 2),
    "410 for everything, each with its own message": ([gone("a"), gone("b")], [NOT_FOUND] * 2),
    "410 for one item alone": ([gone()], [NOT_FOUND]),
    "410 for some": ([gone(), gone(), FINE], [NOT_FOUND, NOT_FOUND, OK]),
    "410 for some, 400 for others": ([gone(), refused()], [NOT_FOUND, INVALID]),
    "404 for everything": ([MISSING] * 3, [NOT_FOUND] * 3),
    "400 that the description calls not found": (
        [refused(state=ItemState.NOT_FOUND, meaning=Meaning.NOT_FOUND)] * 3,
        [NOT_FOUND] * 3,
    ),
}


@pytest.mark.parametrize(("answers", "expected"), RUNS.values(), ids=RUNS)
def test_a_refusal_that_everything_gets_is_about_no_item(answers, expected):
    assert settle(*answers) == expected


def test_a_refusal_is_about_its_item_once_the_list_was_answered():
    assert settle(refused(), refused(), confirmed=True) == [INVALID] * 2


def test_memory_is_bounded_and_what_comes_later_counts_alike_until_something_is_answered():
    states = settle(*[refused()] * (MAX_HELD + 3), FINE, refused())
    assert states == [REJECTED] * (MAX_HELD + 3) + [OK, INVALID]


@given(st.lists(st.sampled_from([refused(), gone(), MISSING, FINE, DOWN]), max_size=9), st.randoms())
def test_the_order_of_answers_does_not_matter(answers, random):
    order = list(range(len(answers)))
    random.shuffle(order)
    shuffled = settle(*[answers[n] for n in order])
    assert [shuffled[order.index(n)] for n in range(len(answers))] == settle(*answers)
