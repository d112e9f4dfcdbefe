import subprocess
import sys
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.providers import Listing
from monitor.providers.id_set import IdSet

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
    assert len(listing) == len(ready) + len(indexed) + len(others)
    assert not listing.contains("never added")
    assert listing.completed_stage("never added") is None


@given(st.lists(st.lists(st.text(max_size=3), max_size=6), max_size=6), st.booleans())
def test_a_set_of_ids_has_those_that_were_added(pieces, counted_between):
    found, added = IdSet(), set()
    for piece in pieces:
        found.update(iter(piece))
        added.update(piece)
        if counted_between:
            assert len(found) == len(added)
    asked = sorted(added | {"never added", "", "\0", "\ud800"})
    for _ in range(10):  # by scans, then by slots
        assert found.find(asked) == [each in added for each in asked]
    assert len(found) == len(added)
    assert bool(found) == bool(added)


letters = st.lists(st.sampled_from("abcdefg"), max_size=9)
few = st.sets(st.sampled_from("abcdefg"), max_size=5)


@given(letters, letters, letters, few, few)
def test_unconfirmed_ids_are_those_that_the_list_does_not_call_completed(asked, ready, indexed, others, apart):
    listing, wanted = Listing(), IdSet()
    listing.add_completed("ready", ready)
    listing.add_completed("indexed", indexed)
    listing.add_others(others)
    wanted.update(asked)
    expected = {item_id for item_id in asked if listing.completed_stage(item_id) is None}
    assert sorted(listing.unconfirmed(wanted, apart)) == sorted(map(hash, expected))


@given(few, few, few, few)
def test_a_set_is_the_rest_of_others_if_they_have_exactly_its_ids_and_some_apart(asked, ready, indexed, apart):
    wanted, listed = id_set(asked), [id_set(ready), id_set(indexed)]
    is_rest = wanted.is_rest_of(listed, apart)
    if is_rest:
        assert asked <= ready | indexed
    if not ready & indexed and not asked & apart:
        assert is_rest == (asked <= ready | indexed <= asked | apart)


def id_set(ids):
    found = IdSet()
    found.update(ids)
    return found


def test_a_few_look_ups_need_no_slots():
    found = id_set(map(str, range(20_000)))
    tracemalloc.start()
    try:
        for _ in range(5):
            assert found.find(["7", "x"]) == [True, False]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000, "slots take 8 bytes for each of these"


def test_a_set_of_ids_takes_a_quarter_of_the_memory_of_pythons_own():
    tracemalloc.start()
    try:
        found = IdSet()
        for start in range(0, 20_000, 1000):
            found.update([f"{number:036}" for number in range(start, start + 1000)])
        assert found.find(["0" * 36, "1" * 36]) == [True, False]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / 20_000 < 30, "a set takes 130 bytes for each of these"


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


pieces = st.lists(st.lists(st.text(alphabet="ab\0\ud800", max_size=2), max_size=4), max_size=4)
parts = st.dictionaries(st.sampled_from(["ready", "indexed", ""]), pieces)


def listed(found, others=()):
    listing = Listing()
    for stage, batches in found.items():
        for batch in batches:
            listing.add_completed(stage, iter(batch))
    for batch in others:
        listing.add_others(batch)
    return listing


def joined(batches):
    return [item_id for batch in batches for item_id in batch]


@given(parts, pieces, parts, pieces)
def test_listings_have_one_digest_only_if_they_say_the_same(found, others, again, others_again):
    said = [({stage: joined(b) for stage, b in each.items()}, joined(rest)) for each, rest in
            ((found, others), (again, others_again))]  # fmt: skip
    digests = [listed(found, others).digest(), listed(again, others_again).digest()]
    stages = [{stage: ids for stage, ids in by_stage.items() if ids} for by_stage, _ in said]
    if None not in digests and digests[0] == digests[1]:
        assert (stages[0], said[0][1]) == (stages[1], said[1][1])
    for (by_stage, rest), digest in zip(said, digests, strict=True):
        whole = listed({stage: [ids] for stage, ids in by_stage.items()}, [rest] if rest else [])
        assert digest in {None, whole.digest()}
        odd = any("\0" in item_id for ids in (*by_stage.values(), rest) for item_id in ids)
        assert (digest is None) == odd


def test_another_process_finds_the_same_digest():
    code = "from monitor.providers import Listing; a = Listing(); a.add_completed('S', 'éb'); print(a.digest().hex())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_look_ups_after_the_index_was_dropped_find_the_same():
    made = listed({"ready": [["a", "b"]]}, [["c"]])
    assert len(made) == 3
    made.drop_index()
    assert made.completed_stages("abcd") == ["ready", "ready", None, None]
    assert len(made) == 3
