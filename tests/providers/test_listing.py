from hypothesis import given
from hypothesis import strategies as st

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
