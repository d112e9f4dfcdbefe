from sqlalchemy import insert
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.database.tables import item_events
from monitor.runs import store as run_store
from monitor.runs.store import ItemChangeGroup


def record(engine, *events, run_id=1):
    rows = [
        {"target": "gloo", "item_id": item_id, "run_id": run_id, "at": NOW, "kind": kind, "old": old, "new": new}
        for item_id, kind, old, new in events
    ]
    with writing(engine) as conn:
        conn.execute(insert(item_events), rows)


def of_run(engine, run_id=1, **options):
    with reading(engine) as conn:
        return run_store.item_changes_of_run(conn, run_id, **options)


def test_items_that_went_the_same_way_are_one_turn_the_most_frequent_first(engine):
    record(
        engine,
        ("x", "removed", None, None),
        ("d", "state", "pending", "completed"),
        ("b", "state", "pending", "completed"),
        ("c", "state", "pending", "failed"),
        ("e", "state", "pending", "failed"),
        ("a", "state", "pending", "completed"),
    )
    assert of_run(engine) == [
        ItemChangeGroup(kind="state", old="pending", new="completed", count=3, sample_ids=("a", "b", "d")),
        ItemChangeGroup(kind="state", old="pending", new="failed", count=2, sample_ids=("c", "e")),
        ItemChangeGroup(kind="removed", old=None, new=None, count=1, sample_ids=("x",)),
    ]


def test_no_more_ids_are_named_than_asked_for(engine):
    record(engine, *((f"i{n}", "stage", "QUEUED", "CHUNKING") for n in range(5)))
    (change,) = of_run(engine, samples=2)
    assert (change.count, change.sample_ids) == (5, ("i0", "i1"))


def test_the_first_state_and_an_equal_word_of_another_kind_are_turns_of_their_own(engine):
    record(
        engine, ("a", "state", None, "completed"), ("b", "state", "failed", "completed"),
        ("c", "stage", "failed", "completed"),
    )  # fmt: skip
    found = {(change.kind, change.old): change.sample_ids for change in of_run(engine)}
    assert found == {("state", None): ("a",), ("state", "failed"): ("b",), ("stage", "failed"): ("c",)}


def test_another_runs_turns_are_not_this_ones(engine):
    record(engine, ("a", "state", None, "completed"), run_id=2)
    assert of_run(engine, 1) == []
    assert len(of_run(engine, 2)) == 1
