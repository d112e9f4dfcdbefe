from datetime import timedelta

import pytest
from samples import NOW
from sqlalchemy import insert, select, update

from monitor.model import Cause, ItemState
from monitor.store import members
from monitor.store.engine import reading, writing
from monitor.store.members import Patience
from monitor.store.tables import items

MINUTE = timedelta(minutes=1)
PATIENCE = Patience(stuck_after=30 * MINUTE, missing_after=15 * MINUTE)
FAILED, MISSING, STUCK = Cause.ITEMS_FAILED, Cause.ITEMS_MISSING, Cause.ITEMS_STUCK
LONG_AGO = NOW - 60 * MINUTE


@pytest.fixture
def add(engine):
    """Puts an item on the work list as a run has left it."""

    def add(item_id, state, target="gloo", **fields):
        row = {"target": target, "item_id": item_id, "state": state.value, "first_seen_at": LONG_AGO, **fields}
        with writing(engine) as conn:
            conn.execute(insert(items).values(row))

    return add


@pytest.fixture
def change(engine):
    def change(item_id, **fields):
        with writing(engine) as conn:
            conn.execute(update(items).where(items.c.item_id == item_id).values(fields))

    return change


def ailing(engine, cause, *, samples=10, target="gloo"):
    with reading(engine) as conn:
        return members.ailing(conn, target=target, cause=cause, now=NOW, patience=PATIENCE, samples=samples)


def join(engine, cause, incident_id=7, target="gloo"):
    with writing(engine) as conn:
        return members.join(conn, target=target, cause=cause, incident_id=incident_id, now=NOW, patience=PATIENCE)


def leave(engine, cause, incident_id=7):
    with writing(engine) as conn:
        return members.leave(conn, incident_id=incident_id, cause=cause, now=NOW, patience=PATIENCE)


def count(engine, incident_id=7):
    with reading(engine) as conn:
        return members.count(conn, incident_id=incident_id)


JUST_NOW = NOW - MINUTE
BAD = [
    ("failed", FAILED, ItemState.FAILED, {}, True),
    ("completed has not failed", FAILED, ItemState.COMPLETED, {}, False),
    ("unknown has not failed", FAILED, ItemState.UNKNOWN, {"known_state": "failed"}, False),
    ("removed from the log", FAILED, ItemState.FAILED, {"removed_at": NOW}, False),
    ("told to be ignored", FAILED, ItemState.FAILED, {"ignored_at": NOW}, False),
    ("member already", FAILED, ItemState.FAILED, {"incident_id": 3}, False),
    ("missing for long", MISSING, ItemState.NOT_FOUND, {"submitted_at": NOW - 16 * MINUTE}, True),
    ("missing, uploaded just now", MISSING, ItemState.NOT_FOUND, {"submitted_at": JUST_NOW}, False),
    ("missing, to the minute", MISSING, ItemState.NOT_FOUND, {"submitted_at": NOW - 15 * MINUTE}, False),
    ("missing, upload time unknown, read long ago", MISSING, ItemState.NOT_FOUND, {}, True),
    ("missing, upload time unknown, read just now", MISSING, ItemState.NOT_FOUND, {"first_seen_at": JUST_NOW}, False),
    ("was there", MISSING, ItemState.NOT_FOUND, {"submitted_at": JUST_NOW, "seen_at": JUST_NOW}, True),
    ("was there and is", MISSING, ItemState.COMPLETED, {"seen_at": JUST_NOW}, False),
    ("pending for long", STUCK, ItemState.PENDING, {"pending_since": NOW - 31 * MINUTE}, True),
    ("pending, to the minute", STUCK, ItemState.PENDING, {"pending_since": NOW - 30 * MINUTE}, False),
    ("pending for a while", STUCK, ItemState.PENDING, {"pending_since": JUST_NOW}, False),
    ("pending since nobody knows when", STUCK, ItemState.PENDING, {}, False),
    ("was pending for long", STUCK, ItemState.COMPLETED, {"pending_since": LONG_AGO}, False),
]


@pytest.mark.parametrize(("cause", "state", "fields", "bad"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_which_items_ail(engine, add, cause, state, fields, bad):
    add("a", state, **fields)
    assert ailing(engine, cause) == ((1, ("a",)) if bad else (0, ()))
    assert join(engine, cause) == bad
    assert count(engine) == bad


def test_the_first_few_are_named_and_all_are_counted(engine, add):
    for item_id in ("d", "b", "a", "c"):
        add(item_id, ItemState.FAILED)
    add("a", ItemState.FAILED, target="another")
    assert ailing(engine, FAILED, samples=2) == (4, ("a", "b"))
    assert join(engine, FAILED) == 4
    assert ailing(engine, FAILED) == (0, ())
    assert ailing(engine, FAILED, target="another") == (1, ("a",))


def test_only_causes_of_items_have_members(engine):
    with pytest.raises(ValueError, match="not a cause of items"):
        ailing(engine, Cause.OUTAGE)


LEAVING = [
    ("well", {"state": "completed"}, 1),
    ("in progress again", {"state": "pending"}, 1),
    ("gone altogether: that is another cause's", {"state": "not_found"}, 1),
    ("still failed", {"state": "failed"}, 0),
    ("unknown: nothing was found out", {"state": "unknown"}, 0),
    ("left the log: only a run that saw the log may say so", {"state": "completed", "removed_at": NOW}, 0),
    ("ignored", {"state": "failed", "ignored_at": NOW}, 0),
]


@pytest.mark.parametrize(("fields", "left"), [each[1:] for each in LEAVING], ids=[each[0] for each in LEAVING])
def test_who_leaves(engine, add, change, fields, left):
    add("a", ItemState.FAILED)
    add("b", ItemState.FAILED)
    join(engine, FAILED)
    change("a", **fields)
    assert leave(engine, FAILED) == left
    assert count(engine) == 2 - left


def test_a_stuck_item_that_began_anew_leaves(engine, add, change):
    add("a", ItemState.PENDING, pending_since=LONG_AGO)
    join(engine, STUCK)
    change("a", pending_since=JUST_NOW)
    assert leave(engine, STUCK) == 1


def test_a_missing_item_that_is_there_leaves(engine, add, change):
    add("a", ItemState.NOT_FOUND)
    join(engine, MISSING)
    change("a", state="pending", seen_at=NOW)
    assert leave(engine, MISSING) == 1


def test_whoever_left_the_log_or_is_ignored_is_released(engine, add, change):
    for item_id in "abc":
        add(item_id, ItemState.FAILED)
    join(engine, FAILED)
    change("a", removed_at=NOW)
    change("b", ignored_at=NOW)
    with writing(engine) as conn:
        assert members.release(conn, incident_id=7) == 2
        assert members.release(conn, incident_id=7) == 0
    assert count(engine) == 1


def test_detaching_lets_the_members_of_one_incident_go(engine, add):
    add("a", ItemState.FAILED)
    join(engine, FAILED)
    add("b", ItemState.FAILED)
    join(engine, FAILED, incident_id=8)
    with writing(engine) as conn:
        members.detach(conn, incident_id=7)
    assert (count(engine, 7), count(engine, 8)) == (0, 1)
    with reading(engine) as conn:
        assert conn.execute(select(items.c.incident_id).where(items.c.item_id == "a")).scalar_one() is None


def test_members_are_shown_with_their_stage_and_since_when(engine, add):
    add("b", ItemState.PENDING, stage="CHUNKING", pending_since=LONG_AGO, since=NOW)
    add("a", ItemState.PENDING, stage="QUEUED", pending_since=LONG_AGO - MINUTE)
    add("c", ItemState.PENDING, pending_since=LONG_AGO)
    join(engine, STUCK)
    add("d", ItemState.FAILED, since=NOW)
    join(engine, FAILED, incident_id=8)
    with reading(engine) as conn:
        assert members.sample(conn, incident_id=7, limit=2) == [
            ("a", "QUEUED", LONG_AGO - MINUTE), ("b", "CHUNKING", LONG_AGO),
        ]  # fmt: skip
        assert members.sample(conn, incident_id=8, limit=2) == [("d", None, NOW)]
