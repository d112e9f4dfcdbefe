from types import MappingProxyType

import pytest
from database.history import HOUR, MINUTE, HistoryBuilder
from support.samples import NOW

from monitor.database.engine import reading
from monitor.model import ItemState
from monitor.reports import trends as breakdowns
from monitor.reports.trends import StageCount, StuckItem

PATIENCE = 30 * MINUTE
STUCK_BEFORE = {"gloo": NOW - PATIENCE}
LATE, EARLY = NOW - HOUR, NOW - MINUTE


@pytest.fixture
def history(engine):
    return HistoryBuilder(engine)


def broken_down(engine, limit):
    with reading(engine) as conn:
        found = breakdowns.breakdowns(conn, stuck_before=STUCK_BEFORE, max_groups=limit, max_stages=limit)
        return found.get("gloo", breakdowns.Breakdown())


def by_group(engine, limit=9):
    found = broken_down(engine, limit)
    return found.group_count, [*found.groups]


def by_stage(engine, limit=9):
    found = broken_down(engine, limit)
    return found.stage_count, [*found.stages]


def stuck(engine, limit=9):
    with reading(engine) as conn:
        return breakdowns.stuck_items(conn, stuck_before=STUCK_BEFORE, limit=limit).get("gloo", [])


def test_each_group_has_its_items_by_state(engine, history):
    history.item("a", group_name="sermons")
    history.item("b", "failed", group_name="sermons")
    history.item("c", "pending", group_name="sermons", pending_since=LATE)
    history.item("d", "pending", group_name="sermons", pending_since=EARLY)
    history.item("e", "unknown", known_state=None)
    _, (sermons, rest) = by_group(engine)
    assert sermons.counts == MappingProxyType(
        dict.fromkeys(ItemState, 0) | {ItemState.COMPLETED: 1, ItemState.FAILED: 1, ItemState.PENDING: 2}
    )
    assert (sermons.name, sermons.total, sermons.stuck) == ("sermons", 4, 1)
    assert (rest.name, rest.total, rest.counts[ItemState.UNKNOWN]) == (None, 1, 1)


def test_groups_with_problems_come_first_then_the_large_ones(engine, history):
    for n in range(3):
        history.item(f"l{n}", group_name="large")
    history.item("s", group_name="small")
    history.item("f", "not_found", group_name="failing")
    history.item("p", "pending", group_name="slow", pending_since=LATE)
    history.item("q", "invalid", group_name="slow")
    total, groups = by_group(engine, limit=3)
    assert (total, [group.name for group in groups]) == (4, ["slow", "failing", "large"])


def test_removed_ignored_and_foreign_items_are_not_counted(engine, history):
    history.item("gone", removed_at=NOW)
    history.item("left alone", "pending", ignored_at=NOW, pending_since=LATE)
    history.item("foreign", "pending", target="other", pending_since=LATE)
    assert by_group(engine) == (0, [])
    assert by_stage(engine) == (0, [])
    assert stuck(engine) == []


def test_stages_are_counted_most_frequent_first(engine, history):
    history.item("a", "pending", stage="CHUNKING")
    history.item("b", "unknown", known_state="pending", stage="CHUNKING")
    history.item("c", stage="COMPLETED")
    history.item("d", "failed", stage=None)
    history.item("e", "not_found", stage="COMPLETED")
    history.item("f", "unknown", known_state=None)
    chunking = StageCount(state=ItemState.PENDING, stage="CHUNKING", items=2)
    done = StageCount(state=ItemState.COMPLETED, stage="COMPLETED", items=1)
    failed = StageCount(state=ItemState.FAILED, stage=None, items=1)
    assert by_stage(engine) == (3, [chunking, done, failed])
    assert by_stage(engine, limit=1) == (3, [chunking])


def test_items_stuck_for_longest_come_first(engine, history):
    history.item("b", "pending", pending_since=LATE - HOUR, stage="QUEUED", group_name="g")
    history.item("a", "pending", pending_since=LATE)
    history.item("c", "pending", pending_since=EARLY)
    history.item("d", "unknown", known_state="pending", pending_since=LATE)
    first = StuckItem(item_id="b", group="g", stage="QUEUED", pending_since=LATE - HOUR)
    second = StuckItem(item_id="a", group=None, stage=None, pending_since=LATE)
    assert stuck(engine) == [first, second]
    assert stuck(engine, limit=1) == [first]


def test_each_target_has_its_own_first_items_and_groups(engine, history):
    for target, group in (("gloo", "g"), ("other", "h")):
        for n in range(3):
            history.item(f"{n}", "pending", target=target, group_name=group, pending_since=LATE - n * MINUTE)
        history.item("done", target=target, group_name=group, stage="READY")
    before = STUCK_BEFORE | {"other": LATE - MINUTE, "without items": LATE}
    with reading(engine) as conn:
        named = breakdowns.stuck_items(conn, stuck_before=before, limit=2)
        broken_down = breakdowns.breakdowns(conn, stuck_before=before, max_groups=1, max_stages=1)
    assert {target: [each.item_id for each in rows] for target, rows in named.items()} == {
        "gloo": ["2", "1"], "other": ["2"],
    }  # fmt: skip
    parts = {
        target: (each.groups[0].name, each.groups[0].total, each.groups[0].stuck)
        for target, each in broken_down.items()
    }
    assert parts == {"gloo": ("g", 4, 3), "other": ("h", 4, 1)}
    assert [each.stages for each in broken_down.values()] == 2 * [
        [StageCount(state=ItemState.PENDING, stage=None, items=3)]
    ]
    counts = [count for each in broken_down.values() for count in (each.groups[0].stuck, each.stages[0].items)]
    counts += broken_down["gloo"].groups[0].counts.values()
    assert {type(each) for each in counts} == {int}, "they go into JSON"
