from hypothesis import given
from hypothesis import strategies as st

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.providers import Listing

ids = st.sets(st.text(max_size=5), max_size=20)


@given(ids, ids, ids)
def test_a_listing_contains_the_added_ids(ready, indexed, others):
    listing = Listing()
    for _ in range(2):  # a page that is read again
        listing.add_completed("ready", ready)
        listing.add_completed("indexed", indexed)
        listing.add_others(others)
    for item_id in ready | indexed | others:
        assert listing.contains(item_id)
        if item_id in others:
            assert listing.completed_stage(item_id) is None
        else:
            assert listing.completed_stage(item_id) == ("ready" if item_id in ready else "indexed")
    assert not listing.contains("never added")
    assert listing.completed_stage("never added") is None


# --- statuses of all items -------------------------------------------------------------------------------------------

READY, WORKING, BROKEN = (
    ItemStatus(state=ItemState(state), stage=stage)
    for state, stage in (("completed", "ready"), ("pending", "working"), ("failed", "broken"))
)
found = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([READY, WORKING, BROKEN, None])), max_size=8)


@given(found.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_a_listing_that_keeps_statuses_has_the_worst_of_each_item(orders):
    listings = [Listing(keep_statuses=True) for _ in orders]
    for listing, rows in zip(listings, orders, strict=True):
        listing.add(rows)
        listing.add(rows)
    one, other = listings
    for item_id in "abc":
        assert one.status_of(item_id) == other.status_of(item_id)
        statuses = [status for listed, status in orders[0] if listed == item_id]
        if not statuses:
            assert one.status_of(item_id) is None
        elif BROKEN in statuses:
            assert one.status_of(item_id) == BROKEN
        elif None in statuses:
            assert isinstance(one.status_of(item_id), BadBody)
        else:
            assert one.status_of(item_id) == (WORKING if WORKING in statuses else READY)


def test_items_that_share_a_status_may_be_added_together():
    listing = Listing(keep_statuses=True)
    listing.add_alike(BROKEN, ["a", "b"])
    listing.add_alike(READY, ["c"])
    assert [listing.status_of(each) for each in "abcd"] == [BROKEN, BROKEN, READY, None]
    plain = Listing()
    plain.add_alike(WORKING, ["a"])
    assert isinstance(plain.status_of("a"), BadBody), "its statuses were not kept"
