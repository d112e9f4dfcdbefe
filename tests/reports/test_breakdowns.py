from types import MappingProxyType

import pytest
from database.history import HOUR, MINUTE, Past
from support.samples import NOW

from monitor.database.engine import reading
from monitor.model import ItemState
from monitor.reports import trends as breakdowns
from monitor.reports.trends import StageCount, StuckItem

PATIENCE = 30 * MINUTE
LATE, EARLY = NOW - HOUR, NOW - MINUTE


@pytest.fixture
def past(engine):
    return Past(engine)


def by_group(engine, limit=9):
    with reading(engine) as conn:
        return breakdowns.by_group(conn, target="gloo", as_of=NOW, stuck_after=PATIENCE, limit=limit)


def by_stage(engine, limit=9):
    with reading(engine) as conn:
        return breakdowns.by_stage(conn, target="gloo", limit=limit)


def stuck(engine, limit=9):
    with reading(engine) as conn:
        return breakdowns.longest_stuck(conn, target="gloo", as_of=NOW, stuck_after=PATIENCE, limit=limit)


def test_each_group_has_its_items_by_state(engine, past):
    past.item("a", group_name="sermons")
    past.item("b", "failed", group_name="sermons")
    past.item("c", "pending", group_name="sermons", pending_since=LATE)
    past.item("d", "pending", group_name="sermons", pending_since=EARLY)
    past.item("e", "unknown", known_state=None)
    _, (sermons, rest) = by_group(engine)
    assert sermons.counts == MappingProxyType(
        dict.fromkeys(ItemState, 0) | {ItemState.COMPLETED: 1, ItemState.FAILED: 1, ItemState.PENDING: 2}
    )
    assert (sermons.name, sermons.total, sermons.stuck) == ("sermons", 4, 1)
    assert (rest.name, rest.total, rest.counts[ItemState.UNKNOWN]) == (None, 1, 1)


def test_groups_with_trouble_come_first_then_the_large_ones(engine, past):
    for n in range(3):
        past.item(f"l{n}", group_name="large")
    past.item("s", group_name="small")
    past.item("f", "not_found", group_name="failing")
    past.item("p", "pending", group_name="slow", pending_since=LATE)
    past.item("q", "invalid", group_name="slow")
    total, groups = by_group(engine, limit=3)
    assert (total, [group.name for group in groups]) == (4, ["slow", "failing", "large"])


def test_what_is_removed_ignored_or_of_another_target_is_not_counted(engine, past):
    past.item("gone", removed_at=NOW)
    past.item("left alone", "pending", ignored_at=NOW, pending_since=LATE)
    past.item("foreign", "pending", target="other", pending_since=LATE)
    assert by_group(engine) == (0, [])
    assert by_stage(engine) == (0, [])
    assert stuck(engine) == []


def test_stages_are_counted_where_the_provider_shows_items_the_most_frequent_first(engine, past):
    past.item("a", "pending", stage="CHUNKING")
    past.item("b", "unknown", known_state="pending", stage="CHUNKING")
    past.item("c", stage="COMPLETED")
    past.item("d", "failed", stage=None)
    past.item("e", "not_found", stage="COMPLETED")
    past.item("f", "unknown", known_state=None)
    chunking = StageCount(state=ItemState.PENDING, stage="CHUNKING", items=2)
    done = StageCount(state=ItemState.COMPLETED, stage="COMPLETED", items=1)
    failed = StageCount(state=ItemState.FAILED, stage=None, items=1)
    assert by_stage(engine) == (3, [chunking, done, failed])
    assert by_stage(engine, limit=1) == (3, [chunking])


def test_the_items_that_are_stuck_the_longest_come_first(engine, past):
    past.item("b", "pending", pending_since=LATE - HOUR, stage="QUEUED", group_name="g")
    past.item("a", "pending", pending_since=LATE)
    past.item("c", "pending", pending_since=EARLY)
    past.item("d", "unknown", known_state="pending", pending_since=LATE)
    first = StuckItem(item_id="b", group="g", stage="QUEUED", pending_since=LATE - HOUR)
    second = StuckItem(item_id="a", group=None, stage=None, pending_since=LATE)
    assert stuck(engine) == [first, second]
    assert stuck(engine, limit=1) == [first]
