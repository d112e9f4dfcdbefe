import contextlib
import json
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from support.syncing import sync_worklist

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.tables import item_events, items
from monitor.errors import LeaseLostError, SyncLogError, SyncLogUnavailableError
from monitor.model import SyncLogEntry
from monitor.runs.sync import retry_unavailable_log
from monitor.synclog.validation import add_counts, validate_entries

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TARGET = "gloo"


@pytest.fixture
def epoch(engine):
    with writing(engine) as conn:
        return leases.acquire(conn, target=TARGET, holder="h:1", now=NOW, ttl=HOUR)


@pytest.fixture
def run(engine, epoch):
    def synced(*ids, now=NOW, run_id=1, entries=None, size=2, **more):
        rows = entries if entries is not None else [SyncLogEntry(item_id=item_id) for item_id in ids]
        batches = (rows[i : i + size] for i in range(0, len(rows), size))
        return sync_worklist(engine, target=TARGET, epoch=epoch, run_id=run_id, batches=batches, now=now, **more)

    return synced


def rows(engine):
    with reading(engine) as conn:
        return {row.item_id: row for row in conn.execute(select(items))}


def events(engine):
    with reading(engine) as conn:
        query = select(item_events.c.run_id, item_events.c.item_id, item_events.c.kind, item_events.c.at)
        return [tuple(row) for row in conn.execute(query.order_by(item_events.c.id))]


def test_new_ids_are_tracked_as_unknown_and_not_asked(engine, run):
    report = run("a", "b", "c")
    assert (report.read, report.tracked, report.new, report.removed, report.returned) == (3, 3, 3, 0, 0)
    stored = rows(engine)["b"]
    assert (stored.state, stored.reason, stored.first_seen_at, stored.recognised) == ("unknown", "not_asked", NOW, True)
    assert events(engine) == []


def test_ids_that_leave_the_log_are_removed_and_keep_their_state(engine, run):
    run("a", "b", "c")
    gone = run("b", now=NOW + HOUR, run_id=2)
    assert (gone.new, gone.removed, gone.returned, gone.tracked) == (0, 2, 0, 1)
    assert rows(engine)["a"].removed_at == NOW + HOUR
    again = run("b", now=NOW + 2 * HOUR, run_id=3)
    assert (again.removed, rows(engine)["a"].removed_at) == (0, NOW + HOUR)
    back = run("a", "b", now=NOW + 3 * HOUR, run_id=4)
    assert (back.new, back.removed, back.returned) == (0, 0, 1)
    stored = rows(engine)["a"]
    assert (stored.removed_at, stored.first_seen_at) == (None, NOW)
    assert sorted(events(engine)) == [
        (2, "a", "removed", NOW + HOUR), (2, "c", "removed", NOW + HOUR), (4, "a", "returned", NOW + 3 * HOUR),
    ]  # fmt: skip


def test_an_empty_log_removes_all_items_and_the_report_shows_it(engine, run):
    run("a", "b")
    report = run(run_id=2)
    assert (report.read, report.tracked, report.removed) == (0, 0, 2)


def test_a_log_that_is_empty_all_of_a_sudden_removes_nothing_if_it_is_the_users(engine, run):
    run("a", "b", "c")
    run("a", "b", run_id=2)
    for nothing in ((), (None, "")):
        report = run(*nothing, run_id=3, keep_if_empty=True)
        assert (report.tracked, report.removed, report.kept) == (0, 0, 2)
    assert {item_id for item_id, row in rows(engine).items() if row.removed_at is None} == {"a", "b"}
    assert (run("a", run_id=4, keep_if_empty=True).removed, run(run_id=5).removed) == (1, 1)


def test_upload_times_that_are_not_used_are_counted_and_three_are_kept(run):
    entries = [
        SyncLogEntry(item_id="a", unreadable_time="the other day"),
        SyncLogEntry(item_id="b"),
        SyncLogEntry(item_id="c", submitted_at=NOW - HOUR),
        SyncLogEntry(item_id="d", unreadable_time="2461041.5"),
        SyncLogEntry(item_id=None, unreadable_time="no matter"),
        *(SyncLogEntry(item_id=f"e{n}", submitted_at=NOW + n * HOUR) for n in range(5)),
        *(SyncLogEntry(item_id=f"f{n}", unreadable_time=f"f{n}") for n in range(5)),
    ]
    report = run(entries=entries)
    assert (report.read, report.tracked) == (15, 14)
    assert (report.unreadable, report.unreadable_times) == (7, ("the other day", "2461041.5", "f0"))
    later = ("2026-03-01T13:00:00Z", "2026-03-01T14:00:00Z", "2026-03-01T15:00:00Z")
    assert (report.future, report.future_times) == (4, later)


@pytest.mark.parametrize("others", [0, 1_500], ids=["a short log", "a log that is sorted first"])
def test_the_first_or_the_earliest_of_several_rows_with_one_id_counts(engine, run, others):
    times = {"a": (2, 0, 1), "b": (1, None, 0), "c": (None, 0), "d": (0, None)}
    entries = [
        SyncLogEntry(
            item_id=item_id, submitted_at=None if hours is None else NOW - (9 - hours) * HOUR, group=f"{hours}"
        )
        for item_id, rows in times.items()
        for hours in rows
    ]
    entries[1:1] = [SyncLogEntry(item_id=f"other {n}", group="0") for n in range(others)]

    def stored():
        found = {key: row.submitted_at for key, row in rows(engine).items() if not key.startswith("other")}
        return {key: at and 9 - (NOW - at) // HOUR for key, at in found.items()}

    assert run(entries=entries, size=600).duplicate == 6
    assert stored() == {"a": 2, "b": 1, "c": None, "d": 0}
    assert run(entries=entries, size=600, earliest=True).duplicate == 6
    assert stored() == dict.fromkeys("abcd", 0)
    assert {row.group_name for row in rows(engine).values()} == {"0"}


def test_a_time_that_moves_after_the_item_was_seen_is_no_upload_time(engine, run):
    def seen(at, now, **fields):
        run(entries=[SyncLogEntry(item_id="a", submitted_at=at, **fields)], now=now)
        return rows(engine)["a"].submitted_at

    assert seen(None, NOW) is None
    assert seen(NOW + HOUR, NOW + 2 * HOUR) == NOW + HOUR  # written later than the row
    assert seen(NOW + 3 * HOUR, NOW + 3 * HOUR, group="moved") == NOW + HOUR
    assert rows(engine)["a"].group_name == "moved"
    assert seen(NOW - 5 * HOUR, NOW + 4 * HOUR) == NOW - 5 * HOUR  # another time zone is configured
    assert seen(NOW, NOW + 5 * HOUR) == NOW
    assert seen(NOW + 6 * HOUR, NOW + 6 * HOUR) == NOW
    run("other", now=NOW + 7 * HOUR)
    assert seen(NOW + 8 * HOUR, NOW + 9 * HOUR) == NOW + 8 * HOUR  # it left the log, and was uploaded again


class Log:
    """A sync log that can't be read for the moment, so many times."""

    def __init__(self, *errors):
        self.errors, self.reads = list(errors), 0

    def __call__(self):
        self.reads += 1
        if self.errors:
            raise self.errors.pop(0)
        return "read"


AWAY = SyncLogUnavailableError("is restarting")


@pytest.mark.parametrize(
    ("log", "reads", "raised"),
    [
        (Log(), 1, None),
        (Log(AWAY), 2, None),
        (Log(AWAY, AWAY), 3, None),
        (Log(AWAY, AWAY, AWAY), 3, SyncLogUnavailableError),
        (Log(SyncLogError("has no table")), 1, SyncLogError),
        (Log(AWAY, SyncLogError("has no table")), 2, SyncLogError),
    ],
    ids=["good", "once", "twice", "for long", "for good", "for a moment, then for good"],
)
def test_a_log_that_is_away_for_a_moment_is_read_again(monkeypatch, log, reads, raised):
    monkeypatch.setattr("monitor.runs.sync.FIRST_PAUSE_S", 0.001)
    now_s = time.monotonic()
    with contextlib.nullcontext() if raised is None else pytest.raises(raised):
        retry_unavailable_log(log, started_s=now_s, deadline_s=now_s + 60, should_stop=lambda: False)
    assert log.reads == reads


@pytest.mark.parametrize(("left_s", "stopped"), [(0.5, False), (60, True)], ids=["little time left", "a signal"])
def test_a_log_that_is_away_is_not_read_again_without_time_or_after_a_signal(left_s, stopped):
    log, now_s = Log(AWAY), time.monotonic()
    with pytest.raises(SyncLogUnavailableError):
        retry_unavailable_log(log, started_s=now_s, deadline_s=now_s + left_s, should_stop=lambda: stopped)
    assert log.reads == 1


def test_invalid_ids_are_counted_and_not_tracked(engine, run):
    long, nul, lone = "x" * 513, "a\x00b", "\ud800" * 70
    report = run(None, "", " \t ", "ok", long, nul, lone, "tab\there", "ok", "ok", "x" * 512, "two", "two")
    assert (report.read, report.null, report.blank, report.unusable, report.duplicate) == (13, 1, 2, 4, 3)
    assert (report.tracked, report.new) == (3, 3)
    assert report.duplicate_ids == ("ok", "two")
    assert report.unusable_ids == ("x" * 60, r"a\x00b", r"\ud800" * 10, r"tab\there")
    assert set(rows(engine)) == {"ok", "x" * 512, "two"}


def test_ids_are_stored_unchanged(engine, run):
    odd = [" padded ", "Case", "case", "日本語", "a'b\"c;--", "%41", "e\u0301", "\u00e9", "\u202eevil"]
    assert run(*odd).tracked == len(odd)
    assert set(rows(engine)) == set(odd)


def test_the_first_row_of_an_id_counts(engine, run):
    entries = [
        SyncLogEntry(item_id="a", group="one"),
        SyncLogEntry(item_id="b"),
        SyncLogEntry(item_id="a", group="two"),
    ]
    run(entries=entries)
    assert rows(engine)["a"].group_name == "one"


def test_future_upload_times_are_counted_and_ignored(engine, run):
    future, past = NOW + HOUR, NOW - HOUR
    report = run(entries=[SyncLogEntry(item_id="a", submitted_at=future), SyncLogEntry(item_id="b", submitted_at=past)])
    assert report.future == 1
    assert [rows(engine)[i].submitted_at for i in "ab"] == [None, past]
    later = run(entries=[SyncLogEntry(item_id="a", submitted_at=future), SyncLogEntry(item_id="b")], now=NOW + 2 * HOUR)
    assert later.future == 0
    assert [rows(engine)[i].submitted_at for i in "ab"] == [future, None]


def test_a_group_of_any_text_is_stored(engine, run):
    run(entries=[SyncLogEntry(item_id="a", group="g" * 500), SyncLogEntry(item_id="b", group="x\x00y")])
    assert [rows(engine)[i].group_name for i in "ab"] == ["g" * 200, r"x\x00y"]


def test_a_second_sync_of_the_same_log_writes_no_item(engine, run, database_kind):
    run(*"abcdef")
    # every row's physical version must stay the same
    version = "SELECT sum(CAST(CAST(xmin AS text) AS bigint)) FROM items"
    if database_kind == "sqlite":
        version = "SELECT count(*) FROM touched"
        with writing(engine) as conn:
            conn.execute(text("CREATE TABLE touched (id)"))
            conn.execute(
                text("CREATE TRIGGER t AFTER UPDATE ON items BEGIN INSERT INTO touched VALUES (NEW.item_id); END")
            )
    with reading(engine) as conn:
        before = conn.scalar(text(version))
    report = run(*"abcdef", now=NOW + HOUR, run_id=2)
    assert (report.new, report.removed, report.returned, report.tracked) == (0, 0, 0, 6)
    with reading(engine) as conn:
        assert conn.scalar(text(version)) == before


def test_items_of_other_targets_are_not_changed(engine, run, epoch):
    with writing(engine) as conn:
        other = leases.acquire(conn, target="other", holder="h:1", now=NOW, ttl=HOUR)
    sync_worklist(engine, target="other", epoch=other, run_id=1, batches=[[SyncLogEntry(item_id="x")]], now=NOW)
    run("a")
    run()
    with reading(engine) as conn:
        left = conn.execute(select(items.c.target).where(items.c.removed_at.is_(None))).scalars().all()
    assert left == ["other"]


def test_a_stale_epoch_writes_nothing(engine, run, epoch):
    run("a")
    with writing(engine) as conn:
        leases.release(conn, target=TARGET, epoch=epoch)
        leases.acquire(conn, target=TARGET, holder="h:2", now=NOW, ttl=HOUR)
    with pytest.raises(LeaseLostError, match=r"target gloo: the lease of this run \(epoch 1\)"):
        run("b")
    assert {i: row.removed_at for i, row in rows(engine).items()} == {"a": None}


def test_a_log_that_fails_halfway_changes_nothing_and_the_next_sync_works(engine, run, epoch):
    run("a")

    def breaking():
        yield [SyncLogEntry(item_id="b")]
        raise SyncLogError("gone")

    with pytest.raises(SyncLogError, match="gone"):
        sync_worklist(engine, target=TARGET, epoch=epoch, run_id=2, batches=breaking(), now=NOW)
    assert {i: row.removed_at for i, row in rows(engine).items()} == {"a": None}
    assert run("a", "c").new == 1


def test_reading_the_sync_log_holds_no_lock_of_our_database(engine, epoch, store_url, database_kind):
    written = []

    def slow():
        yield [SyncLogEntry(item_id="a")]
        if database_kind == "sqlite":
            with contextlib.closing(sqlite3.connect(store_url.removeprefix("sqlite:///"), timeout=0)) as conn:
                conn.execute("INSERT INTO leases (target, epoch) VALUES ('else', 1)")
                conn.commit()
                written.append(conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        else:
            with writing(engine) as conn:
                leases.acquire(conn, target="else", holder="h:2", now=NOW, ttl=HOUR)
                leases.renew(conn, target=TARGET, epoch=epoch, now=NOW, ttl=HOUR)
            written.append(0)
        yield [SyncLogEntry(item_id="b")]

    assert sync_worklist(engine, target=TARGET, epoch=epoch, run_id=1, batches=slow(), now=NOW).new == 2
    assert written == [0]


def test_the_staging_table_is_empty_after_the_sync(engine, run, database_kind):
    run("a")
    catalogue = "sqlite_temp_master" if database_kind == "sqlite" else "pg_class WHERE relname = 'staged_ids'"
    with reading(engine) as conn:
        assert conn.scalar(text(f"SELECT count(*) FROM {catalogue}")) == 0


ENTRY = st.builds(
    SyncLogEntry,
    item_id=st.none() | st.sampled_from(["", " ", "a", "b", "c", "d", "\x00", "x" * 600]),
    submitted_at=st.none() | st.sampled_from([NOW - HOUR, NOW + HOUR]),
)
LOGS = st.lists(st.lists(ENTRY, max_size=12), min_size=1, max_size=4)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(logs=LOGS)
def test_after_any_syncs_the_active_items_are_the_valid_ids_of_the_last_log(engine, run, logs):
    for log in logs:
        with reading(engine) as conn:
            before = conn.scalar(select(func.count()).select_from(items).where(items.c.removed_at.is_(None)))
        report = run(entries=log)
        usable = {e.item_id for e in log if e.item_id and e.item_id.strip() and e.item_id in "abcd"}
        assert {i for i, row in rows(engine).items() if row.removed_at is None} == usable
        assert before + report.new + report.returned - report.removed == report.tracked == len(usable)
        assert report.read == report.tracked + report.duplicate + report.null + report.blank + report.unusable


@given(entries=st.lists(ENTRY, max_size=30), cut=st.integers(0, 30))
def test_validation_in_batches_counts_the_same_as_at_once(entries, cut):
    whole, counts = validate_entries(entries, now=NOW)
    first, some = validate_entries(entries[:cut], now=NOW)
    second, others = validate_entries(entries[cut:], now=NOW)
    assert (first + second, add_counts(some, others)) == (whole, counts)
    assert all(e.item_id and (e.submitted_at is None or e.submitted_at <= NOW) for e in whole)


def stored_params(engine):
    return {item_id: row.params and json.loads(row.params) for item_id, row in rows(engine).items()}


def test_path_parameters_are_stored_and_follow_the_log(engine, run):
    run(entries=[SyncLogEntry(item_id="a", params={"store": "s1"}), SyncLogEntry(item_id="b")])
    assert stored_params(engine) == {"a": {"store": "s1"}, "b": None}

    run(entries=[SyncLogEntry(item_id="a", params={"store": "s2"}), SyncLogEntry(item_id="b")], run_id=2)
    assert stored_params(engine)["a"] == {"store": "s2"}

    run("a", "b", run_id=3)
    assert stored_params(engine)["a"] is None


@pytest.mark.parametrize("value", [None, "", " ", "..", "x" * 513, "a\nb", "\ud800"], ids=ascii)
def test_a_row_without_a_path_parameter_is_counted_and_not_tracked(engine, run, value):
    entries = [SyncLogEntry(item_id=name, params={"store": given}) for name, given in (("a", value), ("b", "s1"))]

    report = run(entries=entries)

    assert (report.read, report.tracked, report.without_params, report.without_params_ids) == (2, 1, 1, ("a",))
    assert rows(engine).keys() == {"b"}


def test_samples_of_rows_without_a_path_parameter_are_five_over_all_batches(run):
    entries = [SyncLogEntry(item_id=f"i{number}", params={"store": None}) for number in range(9)]

    report = run(entries=entries)

    assert (report.without_params, report.without_params_ids) == (9, ("i0", "i1", "i2", "i3", "i4"))
