"""Cutting a work list into ranges, a page of ids at a time, and what others see of shares."""

import contextlib
from collections import Counter

import pytest
from sqlalchemy import event, insert, select, update
from support.fleet import Fleet
from support.samples import NOW

from monitor.database.engine import reading, writing
from monitor.database.tables import items
from monitor.fleet import share_store
from monitor.fleet.shares import DueRange
from monitor.runs.worklist import KeyRange, iter_due_items, iter_unverified

RUN = 5


@pytest.fixture
def engine(new_postgres, connected):
    return connected(new_postgres(migrated=True))


@contextlib.contextmanager
def statements(engine):
    found = Counter()

    def executed(_conn, _cursor, sql, *_):
        found[sql.split()[0]] += 1

    event.listen(engine, "before_cursor_execute", executed)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", executed)


def put(engine, ids, target="gloo", **fields):
    rows = [{"target": target, "item_id": i, "first_seen_at": NOW, "state": "unknown", **fields} for i in ids]
    with writing(engine) as conn:
        conn.execute(insert(items), rows)


def numbered(count, prefix="i"):
    return [f"{prefix}{n:03}" for n in range(count)]


def ranges(engine, *, size, recheck=(), expected=25, page_items=100):
    return share_store.due_ranges(
        engine, target="gloo", run_id=RUN, recheck_ids=recheck, size=size, expected=expected, page_items=page_items
    )


def test_due_items_are_cut_into_ranges_of_almost_equal_size(engine):
    put(engine, numbered(25), asked_run_id=2)
    assert ranges(engine, size=10) == [
        DueRange(first_id="i000", items=9, oldest_run_id=2),
        DueRange(first_id="i009", items=9, oldest_run_id=2),
        DueRange(first_id="i018", items=7, oldest_run_id=2),
    ]
    assert [each.items for each in ranges(engine, size=25)] == [25]
    assert [each.items for each in ranges(engine, size=10, expected=12)] == [6, 6, 6, 6, 1], "more than expected"


@pytest.mark.parametrize("page_items", [1, 9, 10, 12, 24])
def test_many_due_items_are_cut_page_by_page_into_the_same_ranges(engine, page_items):
    put(engine, numbered(20), asked_run_id=2)
    put(engine, ["i0075", "j1"], known_state="completed", state="completed", asked_run_id=2)
    put(engine, ["i0185", "A", "ä"], asked_run_id=1, unverified_runs=1, known_state="completed", state="completed")
    given = {"size": 10, "recheck": ["i0075", "j1"]}
    whole = ranges(engine, **given)
    assert sum(each.items for each in whole) == 25
    with statements(engine) as found:
        assert ranges(engine, page_items=page_items, **given) == whole
    assert found["SELECT"] >= 2


def test_a_work_list_without_due_items_has_no_ranges(engine):
    put(engine, ["done"], known_state="completed", state="completed")
    put(engine, ["gone"], removed_at=NOW)
    put(engine, ["ignored"], ignored_at=NOW)
    put(engine, ["asked"], asked_run_id=RUN)
    put(engine, ["other"], target="docs")
    assert ranges(engine, size=10) == []


def test_a_range_has_the_oldest_run_and_the_rechecks_of_its_items(engine):
    completed = {"known_state": "completed", "state": "completed", "asked_run_id": 4}
    put(engine, ["a", "c"], asked_run_id=3)
    put(engine, ["b", "d", "e"], **completed)
    put(engine, ["f"], unverified_runs=2, **completed)
    put(engine, ["g"], asked_run_id=1)
    put(engine, ["asked"], known_state="completed", asked_run_id=RUN)
    assert ranges(engine, size=3, recheck=["b", "e", "asked", "unknown"], expected=6) == [
        DueRange(first_id="a", items=3, oldest_run_id=3, recheck_ids=("b",)),
        DueRange(first_id="e", items=3, oldest_run_id=1, recheck_ids=("e",)),
    ]


def test_each_share_asks_about_its_own_items_members_and_those_unasked_for_longest_first(engine):
    put(engine, numbered(20), asked_run_id=3)
    with writing(engine) as conn:
        conn.execute(update(items).where(items.c.item_id == "i012").values(incident_id=7))
        conn.execute(update(items).where(items.c.item_id.in_(["i003", "i015"])).values(asked_run_id=1))
        conn.execute(update(items).where(items.c.item_id.in_(["i004", "i017"])).values(unverified_runs=1))
    found = []
    for within in (KeyRange(first_id="i000", before_id="i010"), KeyRange(first_id="i010", before_id=None)):
        given = {"target": "gloo", "run_id": RUN, "batch": 3, "within": within}
        pages = [*iter_due_items(engine, members=9, **given), *iter_unverified(engine, **given)]
        found.append([item.item_id[1:] for page in pages for item in page])
    assert found == [
        ["003", "000", "001", "002", "005", "006", "007", "008", "009", "004"],
        ["012", "015", "010", "011", "013", "014", "016", "018", "019", "017"],
    ]


async def test_a_share_of_a_dead_worker_is_asked_about_whole(shared_world):
    world = shared_world
    world.track(25)
    fleet = Fleet(world, share=15)
    await fleet.plan()
    handlers = fleet.workers[0]
    handlers._begin(handlers.job_of("gloo"), handlers._load(1), 2, "host:7")
    await fleet.work()
    world.clock.advance(seconds=31)
    await fleet.supervise()
    await fleet.work()
    with reading(world.app.engine) as conn:
        assert share_store.open_runs(conn) == []
        assert conn.execute(select(items.c.item_id).where(items.c.asked_run_id != 1)).all() == []
