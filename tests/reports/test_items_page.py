"""The list of items page by page: an order without gaps, in both directions, by filters."""

import itertools
from datetime import timedelta

import pytest
from database.history import HOUR, HistoryBuilder
from support.samples import NOW

from monitor.database.engine import reading
from monitor.reports import items_page as items_page_module
from monitor.reports.item_queries import ItemFilter
from monitor.reports.items_page import Position, decode_position, items_page

STUCK_AFTER = {"gloo": timedelta(minutes=30)}
GONE = {"removed_at": NOW}


@pytest.fixture
def stored(engine):
    """Items of each kind; returns the engine."""
    past = HistoryBuilder(engine)
    rows = [
        ("z-failed", "failed", {}), ("a/ü .pdf", "failed", {"group_name": "faq"}),
        ("stuck", "pending", {"pending_since": NOW - HOUR}),
        ("never asked", "pending", {}), ("young", "pending", {"pending_since": NOW}), ("unknown", "unknown", {}),
        ("done-1", "completed", {}), ("DONE-2", "completed", {"group_name": "faq"}), ("gone", "failed", GONE),
        ("let be", "failed", {"ignored_at": NOW, "ignore_reason": "so"}),
    ]  # fmt: skip
    for item_id, state, fields in rows:
        past.item(item_id, state, **fields)
    past.item("other", "invalid", target="other")
    return engine


def read(engine, *, size=50, after=None, before=None, prefix="", **filters):
    with reading(engine) as conn:
        wanted = ItemFilter(stuck_after=STUCK_AFTER, **filters)
        return items_page(conn, wanted, prefix=prefix, after=after, before=before, size=size, now=NOW)


def ids(page):
    return [each.item_id for each in page.items]


URGENT, REST = ["a/ü .pdf", "stuck", "z-failed", "other"], ["unknown", "never asked", "young"]


def test_problems_come_first_and_each_item_once(stored):
    page = read(stored)
    assert sorted(ids(page)[:4]) == sorted(URGENT)
    assert ids(page)[4:7] == REST
    assert sorted(ids(page)[7:]) == ["DONE-2", "done-1"]
    assert (page.total, page.total_is_minimum, page.before, page.after) == (9, False, None, None)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_pages_forward_and_backward_are_the_whole_list(stored, size):
    whole, pages = ids(read(stored)), [read(stored, size=size)]
    while pages[-1].after is not None:
        pages.append(read(stored, size=size, after=pages[-1].after))
    assert list(itertools.chain(*map(ids, pages))) == whole
    assert [page.before is None for page in pages] == [True] + [False] * (len(pages) - 1)
    assert {page.total for page in pages} == {9}
    back = [pages[-1]]
    while back[-1].before is not None:
        back.append(read(stored, size=size, before=back[-1].before))
    assert list(map(ids, reversed(back))) == list(map(ids, pages))
    assert back[-1].after is not None


FILTERS = [
    ({"target": "other"}, ["other"]),
    ({"stuck": True}, ["stuck"]),
    ({"states": frozenset({"failed"})}, ["a/ü .pdf", "z-failed"]),
    ({"states": frozenset({"pending"})}, ["never asked", "stuck", "young"]),
    ({"states": frozenset({"unknown", "completed"})}, ["DONE-2", "done-1", "unknown"]),
    ({"states": frozenset({"removed"})}, ["gone"]),
    ({"states": frozenset({"ignored"})}, ["let be"]),
    ({"group": "faq"}, ["DONE-2", "a/ü .pdf"]),
    ({"prefix": "done"}, ["DONE-2", "done-1"]),
    ({"prefix": "a/ü"}, ["a/ü .pdf"]),
    ({"prefix": "%"}, []),
]


@pytest.mark.parametrize("few", [0, 500], ids=["many found", "few found"])
def test_pages_of_a_prefix_are_its_whole_list(stored, monkeypatch, few):
    monkeypatch.setattr(items_page_module, "_FEW", few)
    past = HistoryBuilder(stored)
    for item_id in ("Doc_1", "dOC_2", "doc%3", "DOC_4", "doc", "dod"):
        past.item(item_id, "failed" if item_id == "dod" else "completed", target="other")
    for prefix, found in (("DOC_", ["DOC_4", "Doc_1", "dOC_2"]), ("do", None), ("x", [])):
        pages = [read(stored, size=2, prefix=prefix)]
        while pages[-1].after is not None:
            pages.append(read(stored, size=2, prefix=prefix, after=pages[-1].after))
        whole = list(itertools.chain(*map(ids, pages)))
        assert sorted(whole) == (
            found if found is not None else ["DOC_4", "DONE-2", "Doc_1", "dOC_2", "doc", "doc%3", "dod", "done-1"]
        )
        back = [pages[-1]]
        while back[-1].before is not None:
            back.append(read(stored, size=2, prefix=prefix, before=back[-1].before))
        assert (list(map(ids, reversed(back))), pages[0].total) == (list(map(ids, pages)), len(whole))
        assert whole[:1] == (["dod"] if prefix == "do" else whole[:1])


def test_each_filter_selects_its_items(stored):
    for filters, found in FILTERS:
        page = read(stored, **filters)
        assert (sorted(ids(page)), page.total) == (found, len(found)), filters


def test_a_position_survives_its_text():
    there = Position(urgency=2, target="a:b/c", item_id="ü/../ %:x")
    assert decode_position(there.encode()) == there


@pytest.mark.parametrize("text", ["", "x", "9:a:b", "1:a", "1::b", "1:a:"])
def test_other_text_is_no_position(text):
    assert decode_position(text) is None


def test_thousands_of_targets_are_no_longer_query(stored):
    many = {**STUCK_AFTER, **{f"t{n}": timedelta(minutes=30) for n in range(1_500)}}
    with reading(stored) as conn:
        page = items_page(conn, ItemFilter(stuck_after=many, stuck=True), now=NOW)
    assert ids(page) == ["stuck"]
