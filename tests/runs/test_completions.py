"""Which items are settled: those that a list can confirm without a look at their rows."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from support.syncing import sync_worklist

from monitor.database import leases
from monitor.database.engine import writing
from monitor.database.tables import items
from monitor.model import SyncLogEntry
from monitor.runs import completions

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TARGET, OTHER = "gloo", "other"
ODD = 'a"\\,é'
COMPLETED = {"known_state": "completed", "state": "completed"}
ROWS = {
    "a": COMPLETED,
    ODD: COMPLETED,
    "b": COMPLETED | {"ignored_at": NOW},
    "c": COMPLETED | {"removed_at": NOW},
    "d": {"known_state": "completed", "state": "unknown"},
    "e": {"known_state": "pending", "state": "pending"},
    "f": {},
    "g": {"known_state": "failed", "state": "failed", "ignored_at": NOW},
    "h": COMPLETED,
}


@pytest.fixture
def tracked(engine):
    """Two targets with the same items."""
    for target in (TARGET, OTHER):
        with writing(engine) as conn:
            epoch = leases.acquire(conn, target=target, holder="h:1", now=NOW, ttl=timedelta(minutes=1))
        batch = [SyncLogEntry(item_id=item_id, submitted_at=NOW) for item_id in ROWS]
        sync_worklist(engine, target=target, epoch=epoch, run_id=1, batches=[batch], now=NOW)
    with writing(engine) as conn:
        for item_id, values in ROWS.items():
            if values:
                conn.execute(update(items).where(items.c.target == TARGET, items.c.item_id == item_id).values(values))
    return engine


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_settled_and_unsettled_items_are_all_that_are_tracked(tracked, batch):
    unsettled = completions.read_unsettled(tracked, target=TARGET)
    assert {item_id for item_id, found in unsettled.items() if found is None} == {"b", "c", "g"}
    pages = list(completions.iter_settled(tracked, target=TARGET, but=unsettled, batch=batch))
    settled = [item_id for page in pages for item_id in page]
    assert sorted(settled) == sorted(["a", ODD, "h"])
    everything = [each for page in completions.iter_completions(tracked, target=TARGET, batch=batch) for each in page]
    assert {each.item_id for each in everything if each.known_completed and each.last_seen_completed} == set(settled)
    others = [each for each in everything if each.item_id not in settled]
    assert sorted(others, key=repr) == sorted(filter(None, unsettled.values()), key=repr)


def test_without_exceptions_each_batch_is_left_whole(tracked):
    pages = list(completions.iter_settled(tracked, target=TARGET, but=(), batch=5))
    assert [len(page) for page in pages] == [5, 4]


def test_too_many_unsettled_items_are_not_read(tracked):
    assert completions.read_unsettled(tracked, target=OTHER, limit=len(ROWS) - 1) is None
    assert len(completions.read_unsettled(tracked, target=TARGET, limit=len(ROWS))) == 6
