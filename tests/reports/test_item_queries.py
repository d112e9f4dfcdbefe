from datetime import timedelta

import pytest
from sqlalchemy import insert
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.database.tables import item_events, items
from monitor.reports import item_queries as lookup
from monitor.reports.item_queries import ItemFilter

MINUTE = timedelta(minutes=1)
STUCK_AFTER = {"gloo": 30 * MINUTE, "other": 60 * MINUTE}
LONG_AGO = NOW - 90 * MINUTE


@pytest.fixture
def add(engine):
    """Puts an item on the work list as a run would."""

    def add(item_id, state, target="gloo", **fields):
        row = {"target": target, "item_id": item_id, "state": state, "first_seen_at": LONG_AGO, **fields}
        with writing(engine) as conn:
            conn.execute(insert(items).values(row))

    return add


def listed(engine, limit=50, **filters):
    with reading(engine) as conn:
        total, rows = lookup.listing(conn, ItemFilter(stuck_after=STUCK_AFTER, **filters), limit=limit, now=NOW)
    return total, [row.item_id for row in rows]


@pytest.fixture
def mixed(add):
    add("done", "completed", stage="COMPLETED", since=NOW - 5 * MINUTE)
    add("failed-old", "failed", stage="FAILED", since=NOW - 50 * MINUTE, group_name="books")
    add("failed-new", "failed", stage="Failed", since=NOW - 10 * MINUTE)
    add("missing", "not_found", since=NOW - 20 * MINUTE)
    add("fresh", "pending", stage="CHUNKING", pending_since=NOW - 29 * MINUTE)
    add("late", "pending", stage="CHUNKING", pending_since=NOW - 31 * MINUTE)
    add("late-elsewhere", "pending", target="other", stage="CHUNKING", pending_since=NOW - 31 * MINUTE)
    add("later-elsewhere", "pending", target="other", stage="QUEUED", pending_since=NOW - 61 * MINUTE)
    add("dark", "unknown", reason="outage", known_state="completed", since=NOW - MINUTE)
    add("gone", "failed", removed_at=NOW)
    add("skipped", "failed", ignored_at=NOW, ignore_reason="known bad")
    add("skipped-and-gone", "failed", ignored_at=NOW, removed_at=NOW)


def test_problems_come_first_and_the_newest_before_older_ones(engine, mixed):
    total, ids = listed(engine)
    assert ids == [
        *("failed-new", "missing", "late", "failed-old", "later-elsewhere"),
        *("dark", "fresh", "late-elsewhere", "done"),
    ]
    assert total == 9
    assert listed(engine, limit=2) == (9, ids[:2])


NARROWED = [
    ({"states": frozenset({"failed"})}, {"failed-old", "failed-new"}),
    ({"states": frozenset({"failed", "not_found"})}, {"failed-old", "failed-new", "missing"}),
    ({"states": frozenset({"removed"})}, {"gone", "skipped-and-gone"}),
    ({"states": frozenset({"ignored"})}, {"skipped"}),
    ({"states": frozenset({"ignored", "unknown"})}, {"skipped", "dark"}),
    ({"states": frozenset({"invalid"})}, set()),
    ({"stuck": True}, {"late", "later-elsewhere"}),
    ({"stuck": True, "target": "other"}, {"later-elsewhere"}),
    ({"target": "other"}, {"late-elsewhere", "later-elsewhere"}),
    ({"target": "none"}, set()),
    ({"group": "books"}, {"failed-old"}),
    ({"stage": "failed"}, {"failed-old", "failed-new"}),
    ({"stage": "CHUNKING", "target": "gloo"}, {"fresh", "late"}),
    ({"state_since_before": NOW - 40 * MINUTE}, {"failed-old", "later-elsewhere"}),
    ({"state_since_before": NOW - 40 * MINUTE, "states": frozenset({"failed"})}, {"failed-old"}),
]


def test_each_filter_narrows_the_list(engine, mixed):
    for filters, ids in NARROWED:
        total, found = listed(engine, **filters)
        assert (set(found), total) == (ids, len(ids)), filters


AGES = {
    "pending": ({"pending_since": NOW, "since": LONG_AGO, "submitted_at": LONG_AGO}, NOW),
    "in a state": ({"since": NOW, "submitted_at": LONG_AGO}, NOW),
    "uploaded": ({"submitted_at": NOW}, NOW),
    "first seen": ({}, LONG_AGO),
}


def test_the_age_of_an_item_is_that_of_its_state(engine, add):
    for name, (fields, begun) in AGES.items():
        add(name, "pending", **fields)
        with reading(engine) as conn:
            (row,) = lookup.find(conn, name, target=None, stuck_after={}, now=NOW)
        assert (row.state_since, row.state_since.tzinfo, row.stuck) == (begun, begun.tzinfo, False), name


def test_an_item_is_found_in_every_target_that_has_it(engine, add):
    add("a", "pending", pending_since=NOW - 45 * MINUTE)
    add("a", "pending", target="other", pending_since=NOW - 45 * MINUTE)
    with reading(engine) as conn:
        both = lookup.find(conn, "a", target=None, stuck_after=STUCK_AFTER, now=NOW)
        (one,) = lookup.find(conn, "a", target="other", stuck_after=STUCK_AFTER, now=NOW)
        assert lookup.find(conn, "b", target=None, stuck_after=STUCK_AFTER, now=NOW) == []
    assert [(row.target, row.stuck) for row in both] == [("gloo", True), ("other", False)]
    assert one == both[1]


def test_untracked_items_are_shown_as_such(engine, mixed):
    with reading(engine) as conn:
        shown = {
            item_id: lookup.find(conn, item_id, target=None, stuck_after={}, now=NOW)[0].display_state
            for item_id in ("gone", "skipped", "skipped-and-gone", "dark")
        }
    assert shown == {"gone": "removed", "skipped": "ignored", "skipped-and-gone": "removed", "dark": "unknown"}


def test_a_history_is_oldest_first_and_cut_at_its_beginning(engine):
    turns = [{"at": NOW + n * MINUTE, "kind": "stage", "old": str(n), "new": str(n + 1)} for n in range(4)]
    of_a = {"target": "gloo", "item_id": "a", "run_id": 1}
    with writing(engine) as conn:
        conn.execute(insert(item_events), [{**of_a, **turn} for turn in turns])
        conn.execute(insert(item_events).values({**of_a, **turns[0], "target": "other"}))
        conn.execute(insert(item_events).values({**of_a, **turns[0], "item_id": "b"}))
    with reading(engine) as conn:
        assert lookup.events(conn, target="gloo", item_id="z", limit=9) == (0, [])
        total, all_of_them = lookup.events(conn, target="gloo", item_id="a", limit=9)
        _, newest = lookup.events(conn, target="gloo", item_id="a", limit=3)
    assert (total, [(turn.old, turn.new, turn.at) for turn in all_of_them]) == (
        4,
        [(str(n), str(n + 1), NOW + n * MINUTE) for n in range(4)],
    )
    assert newest == all_of_them[1:]


SLIPS = [
    ("doc-100", ["doc-1001", "doc-1002"]),
    ("doc-1009", ["doc-1001", "doc-1002"]),
    ("DOC-1001", ["doc-1001"]),
    ("doc-9999", ["doc-1001", "doc-1002", "doc-2_x", "doc-2ax"]),
    ("doczzzzzzzz", []),
    ("doc-2_", ["doc-2_x"]),
    ("doc…2", ["doc-1002"]),
    ("do…zzz", []),
    ("zzz", []),
    ("", []),
    ("d" * 30, []),
]


def test_ids_with_the_same_prefix_are_suggested(engine, add):
    for item_id in ("doc-1001", "doc-1002", "doc-2_x", "doc-2ax"):
        add(item_id, "completed")
        add(item_id, "completed", target="other")
    with reading(engine) as conn:
        for typed, meant in SLIPS:
            found = [lookup.similar_ids(conn, typed, target=target) for target in (None, "gloo", "none")]
            assert found == [meant, meant, []], typed
