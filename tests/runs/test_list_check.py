from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import BadBody, ItemCompletion
from monitor.model.http import ApiError, CallResult, Meaning, Reply, Request
from monitor.providers import Listing
from monitor.runs import list_check
from monitor.runs.list_check import fetch_list, reconcile, reconcile_settled
from monitor.runs.strategy import SAMPLE_SIZE


def page(path):
    return Request(method="GET", path=path, template="/list")


@dataclass
class Pages:
    """Provider and client in one: a page contains ids and the path of the next page."""

    pages: dict
    asked: list = field(default_factory=list)
    fails: dict = field(default_factory=dict)

    def list_reader(self, request, listing):
        return Reader(self, listing)

    async def send(self, request, *, deadline_s, sink_factory=None, max_attempts=None):
        self.asked.append(request.path)
        if request.path in self.fails:
            sink_factory()(b"half")  # the part that a cut attempt has read
            return CallResult(error=self.fails[request.path], attempts=2, latency_ms=7.0)
        assert sink_factory()(request.path.encode())
        return CallResult(reply=Reply(status=200, headers={}, body=b""), attempts=1, latency_ms=3.0)


@dataclass
class Reader:
    source: Pages
    listing: Listing
    read: bytes = b""

    def feed(self, piece):
        self.read += piece
        self.listing.add_completed("done", [piece.decode()])
        return True

    def finish(self, headers):
        following = self.source.pages[self.read.decode()]
        return page(following) if type(following) is str else following


async def fetched(pages, max_pages=100, **fails):
    source = Pages(pages, fails={f"/{name}": error for name, error in fails.items()})
    return await fetch_list(source, source, first=page("/a"), deadline_s=10.0, max_pages=max_pages), source


async def test_a_page_that_means_something_else_is_an_error_of_the_list():
    found, _ = await fetched({"/a": Meaning.UNAUTHORIZED})
    assert found.error == ApiError(status=200, meaning=Meaning.UNAUTHORIZED)
    assert found.bad_body is None


async def test_pages_of_one_path_differ_by_their_bodies():
    """A list by POST selects its pages in the body."""
    following = iter([msgspec.structs.replace(page("/a"), body=b"2"), msgspec.structs.replace(page("/a"), body=b"2")])

    class ByBody(dict):
        def __getitem__(self, path):
            return next(following)

    found, source = await fetched(ByBody())
    assert source.asked == ["/a", "/a"]
    assert found.bad_body == BadBody(reason="the list repeats a page")


async def test_all_pages_are_read():
    found, source = await fetched({"/a": "/b", "/b": "/c", "/c": None})
    assert source.asked == ["/a", "/b", "/c"]
    assert (len(found.listing), found.error, found.bad_body) == (3, None, None)
    assert (found.requests, found.retries, found.latencies_ms) == (3, 0, [3.0] * 3)


async def test_a_repeated_page_is_a_bad_body():
    found, source = await fetched({"/a": "/b", "/b": "/a"})
    assert source.asked == ["/a", "/b"]
    assert found.bad_body == BadBody(reason="the list repeats a page")


async def test_a_list_with_too_many_pages_is_a_bad_body():
    found, _ = await fetched({"/a": "/b", "/b": "/c", "/c": "/d", "/d": "/e"}, max_pages=3)
    assert found.bad_body == BadBody(reason="the list has over 3 pages")


@pytest.mark.parametrize("failing", ["a", "b"])
async def test_a_failed_page_ends_the_list_with_its_error(failing):
    error = ApiError(status=503)
    found, source = await fetched({"/a": "/b", "/b": None}, **{failing: error})
    assert found.error is error
    assert source.asked[-1] == f"/{failing}"
    assert found.retries == 1


async def test_an_unreadable_page_ends_the_list_with_the_reason():
    found, _ = await fetched({"/a": BadBody(reason="no array")})
    assert found.bad_body == BadBody(reason="no array")


def completion(item_id, *, known_completed=True, last_seen_completed=True):
    return ItemCompletion(item_id=item_id, known_completed=known_completed, last_seen_completed=last_seen_completed)


def listing(completed=(), others=()):
    made = Listing()
    made.add_completed("COMPLETED", completed)
    made.add_others(others)
    return made


def reconciled(completions, listed, valid=lambda _: True):
    return reconcile([completions], listed, canonical=str.lower, valid=valid)


def test_a_completed_item_in_the_list_is_confirmed():
    found = reconciled([completion("A"), completion("b", known_completed=False), completion("c")], listing("ab", "c"))
    assert (found.tracked, found.listed, found.missing) == (3, 3, 0)
    assert (found.confirmed, found.unconfirmed) == (1, 1)


def test_an_unknown_item_is_not_confirmed_by_the_list():
    found = reconciled([completion("a", last_seen_completed=False)], listing("a"))
    assert (found.confirmed, found.unconfirmed) == (0, 1)


def test_of_two_entries_for_an_item_the_worse_counts():
    assert reconciled([completion("a")], listing("a", "a")).confirmed == 0


def test_an_invalid_id_is_not_missing_from_the_list():
    found = reconciled([completion("bad"), completion("good")], listing(), valid=lambda item_id: item_id == "good")
    assert (found.listed, found.missing, found.sample) == (0, 1, ("good",))


@given(st.integers(0, 3000), st.integers(1, 700))
def test_the_sample_is_spread_over_all_missing_items(count, page):
    ids = [f"{n:05}" for n in range(count)]
    pages = [[completion(i) for i in ids[start : start + page]] for start in range(0, count, page)]
    found = reconcile(pages, listing(), canonical=str, valid=lambda _: True)
    assert found.missing == found.tracked == count
    assert len(found.sample) == min(SAMPLE_SIZE, count)
    assert len(set(found.sample)) == len(found.sample)
    assert set(found.sample) <= set(ids)
    if count > 4 * SAMPLE_SIZE:
        assert found.sample[-1] > ids[count // 2]


@pytest.mark.parametrize("most", [2, 1000])
@pytest.mark.parametrize(
    ("listed", "others"),
    [("abcdef", ""), ("abcdefxyz", "b"), ("abc", "yz"), ("", ""), ("", "abcdef")],
    ids=["all", "one-twice", "half", "nothing", "none-completed"],
)
def test_settled_items_are_compared_at_once_with_the_same_result(listed, others, most, monkeypatch):
    monkeypatch.setattr(list_check, "MAX_DOUBTFUL", most)
    unsettled = [completion("x", known_completed=False), completion("y", last_seen_completed=False), completion("bad")]
    settled = ["Ab", "B", "c"], ["d", "e", "f", "a"]
    entries = ["ab" if each == "a" else each for each in listed]
    made, rules = listing(entries, others), {"canonical": str.lower, "valid": lambda item_id: item_id != "bad"}
    found = reconcile_settled(lambda: settled, unsettled, made, apart=["x", "y", "bad"], **rules)
    assert found == reconcile([unsettled, *([completion(i) for i in page] for page in settled)], made, **rules)


letters = st.lists(st.sampled_from("abcdef"), max_size=7)


@given(st.permutations("abcdefABCDEF"), st.integers(0, 12), st.integers(0, 6), letters, letters, st.booleans())
def test_the_comparison_at_once_is_that_one_by_one_for_any_list(ids, settled, tracked, more, others, complete):
    """Whatever the list has, twice or not at all, with and without documents of nobody."""
    many, apart = ids[:settled], ids[settled:]
    completed = [*dict.fromkeys(each.lower() for each in many), *more] if complete else more
    unsettled = [completion(each, last_seen_completed=each < "a") for each in apart[:tracked]]
    made, rules = listing(completed, others), {"canonical": str.lower, "valid": lambda item_id: item_id != "b"}
    found = reconcile_settled(lambda: [many[:3], many[3:]], unsettled, made, apart=apart, **rules)
    assert found == reconcile([unsettled, [completion(each) for each in many]], made, **rules)
