import pytest
from sqlalchemy import insert, select
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.database.tables import item_events, items
from monitor.runs import worklist

TARGET = "gloo"


@pytest.fixture
def tracked(engine):
    rows = [
        {"target": target, "item_id": item_id, "state": "failed", "first_seen_at": NOW}
        for target, item_id in [(TARGET, "a"), (TARGET, "b"), (TARGET, "c"), ("other", "a")]
    ]
    with writing(engine) as conn:
        conn.execute(insert(items), rows)


def ignored_items(engine):
    with reading(engine) as conn:
        query = select(items.c.target, items.c.item_id, items.c.ignore_reason).where(items.c.ignored_at.is_not(None))
        return [tuple(row) for row in conn.execute(query.order_by(items.c.item_id))]


def events(engine):
    with reading(engine) as conn:
        names = ("target", "item_id", "kind", "new", "run_id", "at")
        query = select(*(item_events.c[name] for name in names)).order_by(item_events.c.id)
        return [tuple(row) for row in conn.execute(query)]


def ignore(engine, *ids, reason="known bad"):
    with writing(engine) as conn:
        return worklist.ignore(conn, target=TARGET, item_ids=ids, reason=reason, now=NOW)


def unignore(engine, *ids):
    with writing(engine) as conn:
        return worklist.unignore(conn, target=TARGET, item_ids=ids, now=NOW)


def test_ignored_items_have_a_reason_a_time_and_an_event(engine, tracked):
    done = ignore(engine, "a", "b")
    assert (done.changed, done.unchanged) == (2, 0)
    assert ignored_items(engine) == [(TARGET, "a", "known bad"), (TARGET, "b", "known bad")]
    assert events(engine) == [(TARGET, item_id, "ignored", "known bad", 0, NOW) for item_id in "ab"]


def test_ignoring_again_changes_only_the_reason(engine, tracked):
    ignore(engine, "a")
    done = ignore(engine, "a", "c", reason="deleted")
    assert (done.changed, done.unchanged) == (1, 1)
    assert ignored_items(engine) == [(TARGET, "a", "deleted"), (TARGET, "c", "deleted")]
    assert [(item_id, new) for _, item_id, _, new, *_ in events(engine)] == [("a", "known bad"), ("c", "deleted")]


def test_unignored_items_count_again(engine, tracked):
    ignore(engine, "a", "b")
    done = unignore(engine, "a", "c")
    assert (done.changed, done.unchanged) == (1, 1)
    assert ignored_items(engine) == [(TARGET, "b", "known bad")]
    assert events(engine)[-1] == (TARGET, "a", "unignored", None, 0, NOW)


def test_unignoring_an_item_that_is_not_ignored_stores_nothing(engine, tracked):
    done = unignore(engine, "a", "b")
    assert (done.changed, done.unchanged, events(engine)) == (0, 2, [])


def test_a_long_reason_is_complete_on_the_item_and_cut_in_the_event(engine, tracked):
    ignore(engine, "a", reason="x" * 500)
    assert ignored_items(engine) == [(TARGET, "a", "x" * 500)]
    assert events(engine)[0][3] == "x" * 200


def test_ids_that_are_not_on_the_work_list_are_returned(engine, tracked):
    with reading(engine) as conn:
        asked = ["z", "a", *(f"x{n}" for n in range(600)), "c"]
        missing = worklist.not_on_worklist(conn, target=TARGET, item_ids=asked)
    assert missing == ["z", *(f"x{n}" for n in range(600))]
