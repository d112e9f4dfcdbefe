"""Syncs of the pages that changed, against the copy of the whole log as the oracle."""

import contextlib
import shutil
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from support.changing_logs import HOUR, LAYOUTS, NOW, SERVER, Log, PostgresLog, Target, change, comparable, cut, numbers
from support.scale import THOROUGH

from monitor.errors import LeaseLostError
from monitor.runs.sync import Sync
from monitor.synclog import read, whole_log


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr("monitor.synclog.sqlite_rows.PAGE_ROWS", 3)
    monkeypatch.setattr("monitor.synclog.postgres_pages.PAGES", 4)


@pytest.fixture
def open_log(tmp_path, small_pages, request):
    """Call it with a layout for a new table of a pipeline."""
    url = request.getfixturevalue("new_postgres")() if request.node.callspec.params["layout"] == SERVER else None
    return lambda layout: PostgresLog(url) if url else Log(tmp_path / f"{next(numbers)}.db", layout)


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
                assert comparable(report, layout) == comparable(expected, layout)


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

    def pages(known, _since):
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
