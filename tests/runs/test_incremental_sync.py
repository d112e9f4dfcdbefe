"""Syncs of the pages that changed, against the copy of the whole log as the oracle."""

import contextlib
import itertools
import shutil
import sqlite3
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, insert, select
from support.scale import THOROUGH
from support.syncing import sync_worklist

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.sync_tables import sync_log_pages
from monitor.database.tables import canaries, item_events, items
from monitor.errors import LeaseLostError
from monitor.runs.sync import Sync
from monitor.synclog import SyncLogSpec, read, read_file_state, read_pages, whole_log

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
_numbers = itertools.count()

SERVER = "a server"
ROWS = "CREATE TABLE log (id TEXT, at TEXT, grp TEXT);"
LAYOUTS = {
    "rollback mode": (ROWS, "log"),
    "WAL mode": (f"PRAGMA journal_mode = WAL; {ROWS}", "log"),
    "numbered": ("CREATE TABLE log (n INTEGER PRIMARY KEY, id TEXT, at TEXT, grp TEXT)", "log"),
    "a view": (f"PRAGMA journal_mode = WAL; {ROWS} CREATE VIEW seen AS SELECT * FROM log", "seen"),
}


class Log:
    """A pipeline's table in a SQLite file."""

    key = "rowid"

    def __init__(self, path, layout):
        creation, table = LAYOUTS[layout]
        self.path = path
        self._conn = sqlite3.connect(path, isolation_level=None)
        self._conn.executescript(creation)
        self.spec = SyncLogSpec(
            url=f"sqlite:///{path}", table=table, id_column="id", submitted_at_column="at", group_column="grp"
        )

    def execute(self, sql, *values):
        return self._conn.execute(sql, values).fetchall()

    def add(self, item_id, hours=None, group=None):
        self.execute("INSERT INTO log (id, at, grp) VALUES (?, ?, ?)", item_id, at(hours), group)

    def rows(self):
        return self.execute(f"SELECT {self.key}, id, at, grp FROM log ORDER BY {self.key}")

    def close(self):
        self._conn.close()


class PostgresLog(Log):
    """A pipeline's table on a server."""

    key = "n"

    def __init__(self, url):
        self._conn = psycopg.connect(url, autocommit=True)
        self._conn.execute("DROP TABLE IF EXISTS log; CREATE TABLE log (n serial, id text, at timestamptz, grp text)")
        self.spec = SyncLogSpec(
            url=url, table="log", id_column="id", submitted_at_column="at", group_column="grp", timezone="UTC"
        )

    def execute(self, sql, *values):
        found = self._conn.execute(sql.replace("?", "%s"), [None if value == "\x00" else value for value in values])
        return found.fetchall() if found.description else []


def at(hours):
    return None if hours is None else (NOW + hours * HOUR).isoformat()


@dataclass
class Target:
    """A target whose log is synced with its own clock, and how many rows became entries."""

    engine: object
    log: Log
    name: str = field(default_factory=lambda: f"target {next(_numbers)}")
    epoch: int = 0
    run_id: int = 0
    read: int = 0
    opened: int = 0

    def __post_init__(self):
        with writing(self.engine) as conn:
            self.epoch = leases.acquire(conn, target=self.name, holder="h:1", now=NOW, ttl=1000 * HOUR)

    def sync(self, now=NOW, *, whole=False, **more):
        self.run_id += 1
        options = {"target": self.name, "epoch": self.epoch, "run_id": self.run_id, "now": now, **more}
        if whole:
            return sync_worklist(self.engine, batches=read(self.log.spec), **options)
        self.read = self.opened = 0
        return Sync(
            engine=self.engine,
            read_pages=lambda known: self._pages(known, more.get("earliest")),
            read_file_state=lambda: read_file_state(self.log.spec),
            **options,
        )()

    def _pages(self, known, earliest):
        self.opened += 1
        for page in read_pages(self.log.spec, known=known, merged_as=(earliest,)):
            self.read += len(page.entries or ())
            yield page

    def stored(self):
        of_item = items.c.target == self.name
        columns = (items.c.item_id, items.c.submitted_at, items.c.group_name, items.c.removed_at, items.c.first_seen_at)
        happened = select(item_events.c.item_id, item_events.c.kind, item_events.c.at)
        with reading(self.engine) as conn:
            rows = conn.execute(select(*columns).where(of_item).order_by(items.c.item_id)).all()
            events = conn.execute(happened.where(item_events.c.target == self.name)).all()
        return [tuple(row) for row in rows], sorted(tuple(row) for row in events)

    def pages(self):
        with reading(self.engine) as conn:
            return conn.execute(select(sync_log_pages).where(sync_log_pages.c.target == self.name)).all()

    def add_canary(self, item_id):
        values = {
            "environment": "e",
            "epoch": 1,
            "name": f"{self.name} {item_id} {next(_numbers)}",
            "marker": "m",
            "status": "ok",
        }
        times = {"started_at": NOW, "slow_after_s": 1.0, "clean_up": "done"}
        with writing(self.engine) as conn:
            known = {each.name for each in canaries.c}
            given = {key: value for key, value in (values | times).items() if key in known}
            conn.execute(insert(canaries).values(target=self.name, item_id=item_id, **given))


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr("monitor.synclog.sqlite_rows.PAGE_ROWS", 3)
    monkeypatch.setattr("monitor.synclog.postgres_pages.PAGES", 4)


@pytest.fixture
def open_log(tmp_path, small_pages, request):
    """Call it with a layout for a new table of a pipeline."""
    url = request.getfixturevalue("new_postgres")() if request.node.callspec.params["layout"] == SERVER else None
    return lambda layout: PostgresLog(url) if url else Log(tmp_path / f"{next(_numbers)}.db", layout)


@pytest.fixture
def log(tmp_path, small_pages):
    with contextlib.closing(Log(tmp_path / "pipeline.db", "rollback mode")) as made:
        yield made


@pytest.fixture
def target(engine, log):
    return Target(engine, log)


IDS = st.sampled_from([*"abcdefgh", *"abcdefgh", None, " ", "\x00"])
HOURS = st.none() | st.integers(-5, 5)
GROUPS = st.sampled_from([None, "x", "y", "hidden"])
PLACE = st.integers(0, 30)
CHANGES = st.one_of(
    st.tuples(st.just("add"), IDS, HOURS, GROUPS),
    st.tuples(st.just("add"), IDS, HOURS, GROUPS),
    st.tuples(st.just("delete"), PLACE),
    st.tuples(st.just("move"), PLACE),
    st.tuples(st.just("rename"), PLACE, IDS),
    st.tuples(st.just("date"), PLACE, HOURS),
    st.tuples(st.just("group"), PLACE, GROUPS),
    st.tuples(st.just("empty")),
    st.tuples(st.just("vacuum")),
    st.tuples(st.just("canary"), st.sampled_from("abc")),
)
STEPS = st.lists(
    st.tuples(
        st.lists(CHANGES, max_size=5), st.sampled_from([0, 0, 1, 2, -3, 25]), st.sampled_from(["", "", "", "cut"])
    ),
    min_size=2,
    max_size=6,
)


def change(log, targets, what, *values):
    if what == "add":
        return log.add(*values)
    if what == "empty":
        return log.execute("DELETE FROM log")
    if what == "vacuum":
        return log.execute("VACUUM")
    if what == "canary":
        return [each.add_canary(values[0]) for each in targets]
    rows = log.rows()
    if not rows:
        return None
    rowid, *row = rows[values[0] % len(rows)]
    if what in {"delete", "move"}:
        log.execute(f"DELETE FROM log WHERE {log.key} = ?", rowid)
        if what == "move":
            log.execute("INSERT INTO log (id, at, grp) VALUES (?, ?, ?)", *row)
        return None
    column, value = {"rename": "id", "date": "at", "group": "grp"}[what], values[1]
    if value == row[["id", "at", "grp"].index(column)]:
        return None  # on PostgreSQL it would only move the row behind others with its id
    return log.execute(
        f"UPDATE log SET {column} = ? WHERE {log.key} = ?", at(value) if what == "date" else value, rowid
    )


class CutError(Exception):
    """Ends a sync between two statements."""


def cut(target, now, number, **options):
    """A sync that ends before its nth statement; whether it did."""
    left = itertools.count(number, -1)

    def end(*_):
        if next(left) == 0:
            raise CutError

    event.listen(target.engine, "before_cursor_execute", end)
    try:
        target.sync(now, **options)
    except CutError:
        return True
    finally:
        event.remove(target.engine, "before_cursor_execute", end)
    return False


@pytest.mark.parametrize("layout", [*LAYOUTS, SERVER])
@settings(max_examples=200 if THOROUGH else 15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, earliest=st.booleans(), keep=st.booleans(), number=st.integers(1, 25))
def test_any_changes_have_the_result_of_copying_the_whole_log(engine, open_log, layout, steps, earliest, keep, number):
    options = {"earliest": earliest, "keep_if_empty": keep}
    with contextlib.closing(open_log(layout)) as log:
        ours, oracle = targets = Target(engine, log), Target(engine, log)
        now = NOW
        for changes, hours, interruption in steps:
            now += hours * HOUR
            for each in changes:
                change(log, targets, *each)
            if interruption and cut(ours, now, number, **options):
                continue  # as if this run had never been; the oracle's was not either
            expected = oracle.sync(now, whole=True, **options)
            report = ours.sync(now, **options) if not interruption else None
            assert ours.stored() == oracle.stored()
            if report is not None:
                assert asdict(report) == asdict(expected)


def fill(log, ids):
    for item_id in ids:
        log.add(item_id, -1)


def test_only_the_page_that_changed_is_merged(target, log):
    fill(log, "abcdefgh")
    assert (target.sync().new, target.read) == (8, 8)
    assert (target.sync().tracked, target.read) == (8, 0)
    log.execute("DELETE FROM log WHERE id = 'e'")
    log.execute("UPDATE log SET grp = 'x' WHERE id = 'd'")
    report = target.sync()
    assert (report.read, report.tracked, report.removed, target.read) == (7, 7, 1, 2)
    fill(log, "ijkl")
    assert (target.sync().new, target.read) == (4, 6)
    assert (target.sync().tracked, target.read) == (11, 0)


def test_an_unchanged_log_writes_nothing_and_its_report_is_the_same(engine, target, log):
    fill(log, "aabc")
    log.add("future", 3)
    log.add(" ")
    log.execute("INSERT INTO log (id, at) VALUES ('bad', 'soon')")
    first, written = target.sync(), []
    event.listen(engine, "before_cursor_execute", lambda *call: written.append(call[2]))
    again = target.sync()
    assert [each for each in written if not each.lstrip().startswith(("SELECT", "BEGIN"))] == []
    same = asdict(first) | {"new": 0}
    assert asdict(again) == same
    assert (again.duplicate, again.duplicate_ids, again.future, again.unreadable_times) == (1, ("a",), 1, ("soon",))


def test_what_is_named_of_an_unchanged_log_is_what_comes_first_in_it(target, log):
    for number in range(40):
        log.add(f"\n{number:02}")
        log.add(f"i{number:02}", 1 + number)
    first = target.sync()
    assert first.unusable_ids == tuple(f"\\n0{number}" for number in range(5))
    assert asdict(target.sync()) == asdict(first) | {"new": 0}


def test_an_upload_time_counts_from_the_moment_it_is_no_longer_in_the_future(target, log):
    fill(log, "abc")
    log.add("d", 2)
    assert target.sync().future == 1
    assert (target.sync(NOW + HOUR).future, target.read) == (1, 0)
    assert (target.sync(NOW + 2 * HOUR).future, target.read) == (0, 1)
    assert target.stored()[0][3][1] == NOW + 2 * HOUR


@pytest.mark.parametrize("now", [NOW + 24 * HOUR, NOW - HOUR], ids=["a day later", "a clock that went back"])
def test_the_whole_log_is_copied_once_a_day_and_when_the_clock_went_back(target, log, now):
    fill(log, "abcdef")
    target.sync()
    target.sync(NOW + 23 * HOUR)
    assert target.read == 0
    target.sync(now)
    assert target.read == 6


@pytest.mark.parametrize(
    "doubt",
    [
        lambda log, _: log.add("a"),
        lambda log, _: log.execute("UPDATE log SET id = 'h' WHERE id = 'a'"),
        lambda _, target: target.add_canary("a"),
    ],
    ids=["an id in two pages", "two pages with a new id", "a canary's document"],
)
def test_a_doubt_copies_the_whole_log(target, log, doubt):
    fill(log, "abcdefgh")
    target.sync()
    doubt(log, target)
    target.sync()
    assert target.read >= 8


def test_a_settings_change_merges_every_page(target, log):
    fill(log, "abcdef")
    target.sync()
    target.sync(earliest=True)
    assert target.read == 6


def test_a_run_whose_lease_is_lost_stores_no_page(target, log):
    fill(log, "abc")
    target.sync()
    before = target.pages()
    fill(log, "def")
    target.epoch += 1
    with pytest.raises(LeaseLostError):
        target.sync()
    assert target.pages() == before


def test_a_log_that_is_empty_for_a_moment_is_copied_when_it_is_back(target, log):
    fill(log, "abcdef")
    target.sync(keep_if_empty=True)
    log.execute("DELETE FROM log")
    assert (target.sync(keep_if_empty=True).kept, target.pages()) == (6, [])
    fill(log, "abc")
    assert target.sync(keep_if_empty=True).removed == 3


def test_a_log_that_cant_be_compared_is_merged_as_a_whole_and_tried_again_after_a_day(engine, target, log):
    fill(log, "abc")
    asked = []

    def pages(known):
        asked.append(known)
        return whole_log(read(log.spec))

    def sync(now):
        sync = Sync(engine=engine, target=target.name, epoch=target.epoch, run_id=1, read_pages=pages, now=now)
        return sync().tracked

    assert [sync(NOW + hours * HOUR) for hours in (0, 1, 23, 24)] == [3, 3, 3, 3]
    assert asked == [{}, None, None, {}]


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr("monitor.runs.sync.FILE_ROWS", 1)
    monkeypatch.setattr("monitor.synclog.file_state.SETTLED_S", 0)


def let_the_clock_tick(folder):
    """Waits until a file that is written now has another time than those that were written before."""
    probe = folder / "probe"
    probe.write_text("1")
    first = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == first:
        probe.write_text("1")


def replace_file(log):
    shutil.copy(log.path, f"{log.path}.new")
    log.path.with_name(f"{log.path.name}.new").replace(log.path)


WRITES = {
    "a row": lambda log: log.add("z"),
    "a row that stays as long": lambda log: log.execute("UPDATE log SET grp = 'y' WHERE id = 'a'"),
    "another table": lambda log: log.execute("CREATE TABLE other (n)"),
    "another file": replace_file,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("layout", ["rollback mode", "WAL mode"])
def test_a_file_that_nobody_wrote_is_not_read(engine, open_log, tmp_path, at_once, layout, write):
    with contextlib.closing(open_log(layout)) as log:
        target = Target(engine, log)
        fill(log, "abcd")
        let_the_clock_tick(tmp_path)
        target.sync()
        first = target.sync(NOW + HOUR)  # knows how many rows there are, and so looks at the file
        assert (target.opened, target.read) == (1, 0)
        assert target.sync(NOW + 2 * HOUR) == first
        assert target.opened == 0
        write(log)
        let_the_clock_tick(tmp_path)
        target.sync(NOW + 3 * HOUR)
        assert target.opened == 1
        target.sync(NOW + 4 * HOUR)
        assert target.opened == 0
        target.sync(NOW + 24 * HOUR)
        assert target.opened == 1


def test_a_file_that_another_log_replaced_for_a_while_is_read(engine, tmp_path, log, target, at_once, monkeypatch):
    fill(log, "abcdefg")
    let_the_clock_tick(tmp_path)
    first = [target.sync().tracked, target.sync().tracked]
    with contextlib.closing(Log(tmp_path / "other.db", "rollback mode")) as other:
        fill(other, "abcdefgh")
        with monkeypatch.context() as young:
            young.setattr("monitor.synclog.file_state.SETTLED_S", 3600)
            ours, target.log = target.log, other
            assert (target.sync().tracked, target.read) == (8, 2)
    target.log = ours
    assert [*first, target.sync().tracked] == [7, 7, 7]
    assert [item_id for item_id, *_, removed_at, _ in target.stored()[0] if removed_at] == ["h"]


@pytest.mark.parametrize("layout", ["a view", SERVER])
def test_a_view_and_a_server_are_read_each_time(engine, open_log, tmp_path, at_once, layout):
    with contextlib.closing(open_log(layout)) as log:
        target = Target(engine, log)
        fill(log, "abcd")
        let_the_clock_tick(tmp_path)
        assert [(target.sync().tracked, target.opened) for _ in range(3)] == [(4, 1)] * 3


def test_a_file_that_was_just_written_is_read_again(engine, log, target, monkeypatch):
    monkeypatch.setattr("monitor.runs.sync.FILE_ROWS", 1)
    monkeypatch.setattr("monitor.synclog.file_state.SETTLED_S", 3600)
    fill(log, "abcd")
    assert [(target.sync().tracked, target.opened) for _ in range(3)] == [(4, 1)] * 3
