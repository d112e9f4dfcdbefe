from hypothesis import given
from hypothesis import strategies as st

from monitor.model import ItemCompletion
from monitor.providers import Listing
from monitor.runs.list_check import reconcile
from monitor.runs.strategy import SAMPLE_SIZE


def standing(item_id, *, known_completed=True, last_seen_completed=True):
    return ItemCompletion(item_id=item_id, known_completed=known_completed, last_seen_completed=last_seen_completed)


def listing(completed=(), others=()):
    made = Listing()
    made.add_completed("COMPLETED", completed)
    made.add_others(others)
    return made


def surveyed(standings, listed, valid=lambda _: True):
    return reconcile([standings], listed, canonical=str.lower, valid=valid)


def test_what_is_known_and_listed_to_be_completed_is_confirmed():
    found = surveyed([standing("A"), standing("b", known_completed=False), standing("c")], listing("ab", "c"))
    assert (found.tracked, found.listed, found.missing) == (3, 3, 0)
    assert (found.confirmed, found.unconfirmed) == (1, 1)


def test_an_item_that_the_last_run_could_not_see_is_not_confirmed_silently():
    found = surveyed([standing("a", last_seen_completed=False)], listing("a"))
    assert (found.confirmed, found.unconfirmed) == (0, 1)


def test_an_item_that_the_list_names_twice_counts_as_the_worse():
    assert surveyed([standing("a")], listing("a", "a")).confirmed == 0


def test_an_id_that_the_api_can_never_accept_is_not_missing_from_its_list():
    found = surveyed([standing("bad"), standing("good")], listing(), valid=lambda item_id: item_id == "good")
    assert (found.listed, found.missing, found.sample) == (0, 1, ("good",))


@given(st.integers(0, 3000), st.integers(1, 700))
def test_the_sample_is_spread_over_all_that_is_lacking(count, page):
    ids = [f"{n:05}" for n in range(count)]
    pages = [[standing(i) for i in ids[start : start + page]] for start in range(0, count, page)]
    found = reconcile(pages, listing(), canonical=str, valid=lambda _: True)
    assert found.missing == found.tracked == count
    assert len(found.sample) == min(SAMPLE_SIZE, count)
    assert len(set(found.sample)) == len(found.sample)
    assert set(found.sample) <= set(ids)
    if count > 4 * SAMPLE_SIZE:
        assert found.sample[-1] > ids[count // 2]
