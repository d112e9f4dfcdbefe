import threading
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.samples import NOW

from monitor.database.engine import reading
from monitor.model import SyncLogEntry
from monitor.synclog import builtin as builtin_log

HOUR = timedelta(hours=1)


def entries(*ids, **fields):
    return [SyncLogEntry(item_id=item_id, **fields) for item_id in ids]


@pytest.fixture
def add(engine):
    def add(*given, target="gloo", now=NOW, size=2):
        batches = [given[start : start + size] for start in range(0, len(given), size)]
        done = builtin_log.add(engine, target=target, batches=batches, now=now)
        return done.new, done.known, done.updated, done.duplicate

    return add


def log(engine, target="gloo", **options):
    return [entry for batch in builtin_log.read(engine, target=target, **options) for entry in batch]


def test_ids_are_added_once_however_often_they_are_imported(engine, add):
    assert add(*entries("b", "a", "c", submitted_at=NOW, group="books")) == (3, 0, 0, 0)
    assert add(*entries("b", "a", "c", submitted_at=NOW, group="books"), now=NOW + HOUR) == (0, 3, 0, 0)
    assert log(engine) == entries("a", "b", "c", submitted_at=NOW, group="books")
    with reading(engine) as conn:
        assert builtin_log.count(conn, target="gloo") == 3
        assert builtin_log.added_at(conn, item_id="a") == {"gloo": NOW}
        assert builtin_log.added_at(conn, item_id="z") == {}


def test_different_values_are_stored_and_missing_values_change_nothing(engine, add):
    add(*entries("a", "b", submitted_at=NOW, group="books"))
    assert add(*entries("a"), *entries("b", group="films")) == (0, 1, 1, 0)
    assert add(*entries("a", submitted_at=NOW + HOUR), *entries("c")) == (1, 0, 1, 0)
    assert log(engine) == [
        SyncLogEntry(item_id="a", submitted_at=NOW + HOUR, group="books"),
        SyncLogEntry(item_id="b", submitted_at=NOW, group="films"),
        SyncLogEntry(item_id="c"),
    ]


def test_the_first_row_of_an_id_counts_so_repeating_an_import_changes_nothing(engine, add):
    given = [*entries("a", group="one"), *entries("b"), *entries("a", group="two")]
    assert add(*given, size=1) == (2, 0, 0, 1)
    assert add(*given) == (0, 2, 0, 1)
    assert log(engine) == [SyncLogEntry(item_id="a", group="one"), SyncLogEntry(item_id="b")]


def test_each_target_has_its_own_log(engine, add):
    add(*entries("a"))
    assert add(*entries("a", group="x"), target="other") == (1, 0, 0, 0)
    assert add(*entries("a", group="x"), target="other") == (0, 1, 0, 0)
    assert (log(engine), log(engine, "other"), log(engine, "none")) == (entries("a"), entries("a", group="x"), [])
    with reading(engine) as conn:
        assert list(builtin_log.added_at(conn, item_id="a")) == ["gloo", "other"]


def test_nothing_is_imported_if_reading_the_file_fails(engine, add):
    def broken():
        yield entries("a")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        builtin_log.add(engine, target="gloo", batches=broken(), now=NOW)
    assert log(engine) == []
    assert add(*entries("a")) == (1, 0, 0, 0)  # on the same pooled connection


def test_an_empty_import_is_fine(engine, add):
    assert add() == (0, 0, 0, 0)
    assert builtin_log.add(engine, target="gloo", batches=[[]], now=NOW).read == 0


def test_a_slow_import_does_not_block_other_writers(engine):
    """A second import finishes while the first waits for its next row."""
    second = []

    def slow():
        yield entries("a")
        other = threading.Thread(
            target=lambda: second.append(
                builtin_log.add(engine, target="gloo", batches=[entries("a", "b")], now=NOW + HOUR)
            )
        )
        other.start()
        other.join(timeout=120)
        yield entries("c")

    first = builtin_log.add(engine, target="gloo", batches=slow(), now=NOW)
    assert [done.new for done in second] == [2]
    assert (first.new, first.known) == (1, 1)
    assert log(engine) == entries("a", "b", "c")


def test_ids_are_removed_and_unknown_ids_are_returned(engine, add):
    add(*entries(*"abcd"))
    add(*entries("a"), target="other")
    done = builtin_log.remove(engine, target="gloo", batches=[["a", "x"], ["c", "c", "a"]])
    assert (done.removed, done.unknown, done.unknown_ids) == (2, 2, ("x", "a"))
    assert (log(engine), log(engine, "other")) == (entries("b", "d"), entries("a"))


def test_many_ids_are_removed_and_only_some_unknown_ids_returned(engine, add):
    ids = [f"{n:04}" for n in range(1200)]
    add(*entries(*ids), size=1200)
    done = builtin_log.remove(engine, target="gloo", batches=[ids[:1100], [f"x{n}" for n in range(30)]])
    assert (done.removed, done.unknown, len(done.unknown_ids)) == (1100, 30, 20)
    assert log(engine) == entries(*ids[1100:])


def test_the_log_comes_in_batches_by_id(engine, add):
    add(*entries(*"ecadb"))
    for batch, sizes in [(1, [1] * 5), (3, [3, 2]), (5, [5]), (7, [5])]:
        batches = list(builtin_log.read(engine, target="gloo", batch=batch))
        assert [entry.item_id for rows in batches for entry in rows] == list("abcde")
        assert [len(rows) for rows in batches] == sizes


def test_a_group_of_any_text_is_stored(engine, add):
    add(*entries("a", group="x\0" + "y" * 300))
    (stored,) = log(engine)
    assert stored.group == "x\\x00" + "y" * 195
    assert add(*entries("a", group="x\0" + "y" * 300)) == (0, 1, 0, 0)


ENTRIES = st.builds(
    SyncLogEntry,
    item_id=st.sampled_from("abcdef"),
    submitted_at=st.none() | st.sampled_from([NOW, NOW + HOUR]),
    group=st.none() | st.sampled_from("xy"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(first=st.lists(ENTRIES, max_size=8), second=st.lists(ENTRIES, max_size=8))
def test_repeating_any_import_changes_nothing(engine, add, first, second):
    add(*first)
    add(*second)
    before = log(engine)
    new, known, updated, duplicate = add(*second)
    assert (new, updated, known + duplicate) == (0, 0, len(second))
    assert log(engine) == before
