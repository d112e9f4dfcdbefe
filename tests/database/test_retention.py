"""Pruning end to end: short transactions, concurrent work, interruption at any time, and one process at a time."""

import json
import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from database.test_pruning import ids, run_row, write_runs
from sqlalchemy import func, insert, select, update
from support.samples import NOW

from monitor.database import leases, retention
from monitor.database.engine import connect, reading, writing
from monitor.database.pruning import Prunable, SpaceReclaim
from monitor.database.retention import LEASE, PruneOutcome, Pruner
from monitor.database.retention_policy import Ages, RefusalReason
from monitor.database.tables import item_events
from monitor.database.tables import leases as lease_rows
from monitor.database.tables import runs as run_rows
from monitor.errors import StoreError, StoreUnavailableError
from monitor.runs import store as runs

DAY = timedelta(days=1)
AGES = Ages(snapshots=400 * DAY, item_events=90 * DAY, notifications=30 * DAY)
EVENT = {"target": "gloo", "run_id": 1, "kind": "state", "old": "pending", "new": "completed"}


def fill(engine, events=1600, *, now=NOW):
    """Stores a run per day up to now, and old item events."""
    with writing(engine) as conn:
        write_runs(conn, [run_row(2000 + n, now - (10 - n) * DAY) for n in range(1, 11)])
        at = now - 100 * DAY
        conn.execute(insert(item_events), [{**EVENT, "item_id": f"{n:050d}", "at": at} for n in range(events)])


class FakeSleep:
    """Replaces the sleep of a pruner: a hook between its transactions."""

    def __init__(self, then=None):
        self.count, self.then = 0, then

    def __call__(self, seconds):
        assert 0 < seconds <= 0.5
        self.count += 1
        if self.then:
            self.then(self.count)


def pruner(engine, ages=AGES, *, now=NOW, **options):
    options = {"holder": "host:1", "sleep": FakeSleep(), **options}
    return Pruner(engine, ages, utcnow=lambda: now, **options)


def events_left(engine):
    with reading(engine) as conn:
        return conn.execute(select(func.count()).select_from(item_events)).scalar_one()


def test_it_prunes_in_small_transactions_with_pauses(engine):
    fill(engine)
    sleeps = FakeSleep()
    done = pruner(engine, sleep=sleeps)()
    assert (done.outcome, done.rows[Prunable.ITEM_EVENTS]) == (PruneOutcome.DONE, 1600)
    assert events_left(engine) == 0
    assert sleeps.count >= 4
    assert pruner(engine)().rows == {Prunable.SNAPSHOTS: 0, Prunable.ITEM_EVENTS: 0, Prunable.NOTIFICATIONS: 0}


def test_rows_without_an_age_are_kept_forever(engine):
    fill(engine, events=10)
    assert pruner(engine, Ages(notifications=DAY))().rows == {Prunable.NOTIFICATIONS: 0}
    assert events_left(engine) == 10
    assert pruner(engine, Ages())().outcome is PruneOutcome.DISABLED
    assert pruner(engine, Ages()).dry_run().outcome is PruneOutcome.DISABLED


def test_a_dry_run_counts_and_writes_nothing(engine):
    fill(engine, events=1200)
    foreseen = pruner(engine).dry_run()
    assert foreseen.rows == {Prunable.SNAPSHOTS: 0, Prunable.ITEM_EVENTS: 1200, Prunable.NOTIFICATIONS: 0}
    with reading(engine) as conn:
        assert conn.execute(select(lease_rows)).all() == []
    assert pruner(engine)().rows == foreseen.rows


def test_it_stops_between_transactions_and_continues_later(engine):
    fill(engine)
    sleeps = FakeSleep()
    first = pruner(engine, sleep=sleeps, stop=lambda: sleeps.count >= 2)()
    assert (first.outcome, first.rows[Prunable.ITEM_EVENTS]) == (PruneOutcome.INTERRUPTED, 1600 - events_left(engine))
    assert 0 < events_left(engine) < 1600
    second = pruner(engine)()
    assert (second.outcome, second.rows[Prunable.ITEM_EVENTS]) == (
        PruneOutcome.DONE,
        1600 - first.rows[Prunable.ITEM_EVENTS],
    )


def test_only_one_of_two_concurrent_processes_prunes(engine):
    fill(engine)
    seen = []

    def beside(count):
        if count == 2:
            other = pruner(engine, holder="host:2")()
            seen.append((other.outcome, other.holder))

    assert pruner(engine, sleep=FakeSleep(beside))().rows[Prunable.ITEM_EVENTS] == 1600
    assert seen == [(PruneOutcome.BUSY, "host:1")]
    with reading(engine) as conn:
        assert leases.holder(conn, LEASE) is None


def test_a_process_that_lost_the_lease_stops(engine):
    fill(engine)

    def taken(count):
        if count == 2:
            with writing(engine) as conn:
                conn.execute(update(lease_rows).values(epoch=99, holder="host:2"))

    done = pruner(engine, sleep=FakeSleep(taken))()
    assert (done.outcome, done.rows[Prunable.ITEM_EVENTS]) == (PruneOutcome.INTERRUPTED, 1600 - events_left(engine))
    assert events_left(engine) > 0
    with reading(engine) as conn:
        assert leases.holder(conn, LEASE).holder == "host:2"


def test_rows_deleted_by_another_process_are_no_error(engine):
    fill(engine)

    def beside(count):
        if count == 2:
            with writing(engine) as conn:
                conn.execute(item_events.delete())

    assert pruner(engine, sleep=FakeSleep(beside))().outcome is PruneOutcome.DONE


def test_an_interrupted_daily_pruning_is_repeated_on_the_same_day(engine):
    fill(engine)
    sleeps = FakeSleep()
    assert pruner(engine, sleep=sleeps, stop=lambda: sleeps.count >= 1)(daily=True).outcome is PruneOutcome.INTERRUPTED

    def fail(_):
        raise StoreUnavailableError("database: away")

    with pytest.raises(StoreUnavailableError):
        pruner(engine, sleep=fail)(daily=True)
    assert pruner(engine)(daily=True).outcome is PruneOutcome.DONE
    assert pruner(engine)(daily=True).outcome is PruneOutcome.ALREADY_DONE


def test_the_daily_pruning_is_done_once_by_one_of_many_processes(engine):
    fill(engine, events=5)
    assert pruner(engine)(daily=True).outcome is PruneOutcome.DONE
    assert pruner(engine, holder="host:2")(daily=True).outcome is PruneOutcome.ALREADY_DONE
    assert (
        pruner(engine, holder="host:2", now=NOW + timedelta(hours=19))(daily=True).outcome is PruneOutcome.ALREADY_DONE
    )
    assert pruner(engine, holder="host:2", now=NOW + timedelta(hours=21))(daily=True).outcome is PruneOutcome.DONE
    assert pruner(engine)().outcome is PruneOutcome.DONE  # an explicit pruning runs at any time


def test_a_lease_from_a_clock_ahead_does_not_stop_the_daily_pruning_forever(engine):
    fill(engine, events=5)
    with writing(engine) as conn:
        conn.execute(insert(lease_rows).values(target=LEASE, epoch=1, acquired_at=NOW + 300 * DAY))
    assert pruner(engine)(daily=True).outcome is PruneOutcome.DONE


def test_a_clock_that_is_a_year_ahead_prunes_nothing(engine):
    fill(engine)
    for now, stamped in ((NOW + 365 * DAY, None), (NOW + 365 * DAY, NOW + 365 * DAY)):
        if stamped:
            with writing(engine) as conn:
                write_runs(conn, [run_row(3000, stamped)])
        done = pruner(engine, now=now)()
        assert (done.outcome, done.refusal.reason) == (PruneOutcome.REFUSED, RefusalReason.NO_RECENT_RUNS)
        assert pruner(engine, now=now).dry_run().outcome is PruneOutcome.REFUSED
    assert events_left(engine) == 1600


@pytest.mark.process
def test_history_can_be_read_during_pruning(engine):
    """A reader reads in each pause of the pruning: nothing fails, and the number of rows never decreases."""
    fill(engine)
    with writing(engine) as conn:
        write_runs(conn, [run_row(n, NOW - 900 * DAY + n * timedelta(minutes=1)) for n in range(1, 1000)])
    seen = []

    def read(_count):
        with reading(engine) as conn:
            seen.append([row.run_id for row in runs.history(conn, target="gloo", limit=2000)])

    pruner(engine, sleep=FakeSleep(read))()
    assert len(seen) > 10
    assert all(len(later) <= len(earlier) for earlier, later in pairwise(seen))
    assert len(seen[-1]) < len(seen[0])


@pytest.mark.process
def test_writers_are_not_blocked_during_pruning(engine):
    """A writer finishes during the pruning: it waits for one transaction, not for all."""
    fill(engine, events=2500)
    begun, written = threading.Event(), threading.Event()

    def write():
        begun.wait(30)
        with writing(engine) as conn:
            conn.execute(insert(item_events).values(**EVENT, item_id="new", at=NOW))
        written.set()

    def beside(count):
        begun.set()
        if count == 3:
            assert written.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    done = pruner(engine, sleep=FakeSleep(beside))()
    writer.join()
    assert (done.rows[Prunable.ITEM_EVENTS], events_left(engine)) == (2500, 1)


@pytest.fixture
def file_of(tmp_path, _sqlite_template):
    path = tmp_path / "monitor.db"
    shutil.copyfile(_sqlite_template, path)
    return path


def test_pruning_shrinks_the_file(file_of):
    engine = connect(f"sqlite:///{file_of}")
    fill(engine, events=6_000)
    with closing(sqlite3.connect(file_of)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = file_of.stat().st_size
    done = pruner(engine)()
    engine.dispose()
    assert done.space is SpaceReclaim.RETURNED
    assert file_of.stat().st_size < before / 2
    assert done.bytes_freed >= before - file_of.stat().st_size > 0
    with closing(sqlite3.connect(file_of)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA freelist_count").fetchone() == (0,)


def test_a_reader_delays_the_shrinking_but_blocks_nobody(file_of):
    engine = connect(f"sqlite:///{file_of}")
    fill(engine)
    with closing(sqlite3.connect(file_of, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchall()
        assert pruner(engine)().outcome is PruneOutcome.DONE
    engine.dispose()


def test_an_older_file_without_auto_vacuum_keeps_its_size(file_of):
    with closing(sqlite3.connect(file_of, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
        conn.execute("PRAGMA auto_vacuum=NONE")
        conn.execute("VACUUM")
    engine = connect(f"sqlite:///{file_of}")
    fill(engine)
    assert pruner(engine)().space is SpaceReclaim.KEPT
    engine.dispose()


def test_a_failing_disk_is_an_error_and_the_lease_expires(engine, monkeypatch):
    fill(engine)

    def broken(*_arguments, **_options):
        raise StoreError("the disk is gone")

    monkeypatch.setattr(retention.pruning, "prune", broken)
    with pytest.raises(StoreError, match="the disk is gone"):
        pruner(engine)()
    assert events_left(engine) == 1600


@pytest.fixture
def kept_for_a_while(small_world):
    """A world with ages, and runs up to now."""
    small_world.configure()
    text = small_world.config_path.read_text()
    ages = '[retention]\nsnapshots = "400d"\nitem_events = "90d"\nnotifications = "30d"\n\n'
    small_world.config_path.write_text(text.replace("[[targets]]", f"{ages}[[targets]]", 1))
    fill(small_world.app.engine, events=1000, now=datetime.now(UTC))
    small_world.close()
    return small_world


def test_db_prune_shows_what_was_deleted(here, kept_for_a_while):
    dry = here(kept_for_a_while, "db", "prune", "--dry-run", "--json")
    found = json.loads(dry.stdout)
    assert (dry.returncode, found["outcome"], found["dry_run"]) == (0, "done", True)
    assert {kind: each["rows"] for kind, each in found["pruned"].items()} == {
        "snapshots": 0,
        "item_events": 1000,
        "notifications": 0,
    }
    text = here(kept_for_a_while, "db", "prune", "--dry-run").stdout.splitlines()
    assert text[1].startswith("item events: 1000 would be deleted (older than 20")
    printed = here(kept_for_a_while, "db", "prune").stdout.splitlines()
    assert printed[1].startswith("item events: 1000 deleted (older than 20")
    assert " MB of disk space" in printed[-1]
    again = json.loads(here(kept_for_a_while, "db", "prune", "--json").stdout)
    assert (again["pruned"]["item_events"]["rows"], again["space"], again["reason"]) == (0, "returned", None)


def test_db_prune_without_ages_says_so(here, small_world):
    done = here(small_world, "db", "prune")
    assert (done.returncode, "[retention]" in done.stdout) == (0, True)


def test_db_prune_says_why_it_does_not_trust_the_clock(here, kept_for_a_while):
    engine = kept_for_a_while.app.engine
    for change, said in (
        ({"started_at": datetime(2020, 1, 1, tzinfo=UTC)}, "no run started about a day ago"),
        ({"started_at": datetime(2222, 1, 1, tzinfo=UTC)}, "2222-01-01 00:00:00 UTC, which is ahead"),
    ):
        with writing(engine) as conn:
            conn.execute(update(run_rows).values(change))
        done = here(kept_for_a_while, "db", "prune")
        assert (done.returncode, said in done.stdout) == (0, True), done.stdout
    with writing(engine) as conn:
        conn.execute(run_rows.delete())
    assert json.loads(here(kept_for_a_while, "db", "prune", "--json").stdout)["reason"] == (
        "Nothing was pruned: there are no runs yet."
    )
    assert events_left(engine) == 1000


def test_a_concurrent_db_prune_is_skipped(here, kept_for_a_while):
    with writing(kept_for_a_while.app.engine) as conn:
        leases.acquire(conn, target=LEASE, holder="host:7", now=datetime.now(UTC), ttl=timedelta(minutes=1))
    done = here(kept_for_a_while, "db", "prune")
    assert (done.returncode, "another process is pruning (host:7)" in done.stdout) == (5, True)


def test_an_interrupted_pruning_says_so(engine):
    from monitor.reports.pruning import prune_text

    fill(engine)
    sleeps = FakeSleep()
    done = pruner(engine, sleep=sleeps, stop=lambda: sleeps.count >= 1)()
    assert any(line.startswith("Interrupted") for line in prune_text(done, dry_run=False).splitlines())
    assert ids(engine, run_rows)


def test_check_never_prunes(kept_for_a_while):
    kept_for_a_while.track(2)
    kept_for_a_while.run()
    assert events_left(kept_for_a_while.app.engine) >= 1000
    assert Path(kept_for_a_while.config_path).read_text().count("[retention]") == 1
