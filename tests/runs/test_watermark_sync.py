"""Syncs by the column with the time of a row's last change, against the copy of the whole log as the oracle."""

import contextlib
from dataclasses import replace
from datetime import timedelta, timezone

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.changing_logs import HOUR, NOW, SERVER, Log, PostgresLog, Target, change, comparable, cut, numbers
from support.scale import THOROUGH

from monitor.synclog import Watermark, read_pages

OLD = -100
DAY = 24 * HOUR


def in_zone(hours):
    zone = timezone(timedelta(hours=hours))
    return lambda at: at.astimezone(zone).replace(tzinfo=None).isoformat(sep=" ")


def julian(at):
    return at.timestamp() / 86400 + 2440587.5


MIXED = (lambda at: at.isoformat(), lambda at: f"{at:%Y-%m-%d %H:%M}", in_zone(14), lambda at: f"{at:%Y-%m-%d}Z")
SQLITE_FORMS = {
    "ISO 8601": (lambda at: at.isoformat(), {}),
    "the wrong zone": (in_zone(-11), {}),
    "mixed": (lambda at: MIXED[at.hour % 4](at), {}),
    "seconds": (lambda at: int(at.timestamp()), {}),
    "milliseconds": (lambda at: at.timestamp() * 1000, {"time_format": "ms"}),
    "Julian days": (julian, {"time_format": "julian"}),
    "a pattern of days": (lambda at: f"{at:%Y/%m/%d %H:%M}", {"time_format": "%Y/%m/%d %H:%M"}),
}
UNSORTED_FORMS = {
    "German": (lambda at: f"{at:%d.%m.%Y %H:%M}", {"time_format": "%d.%m.%Y %H:%M"}),
    "digits as text": (lambda at: f"{at.timestamp():.0f}", {}),
    "bytes": (lambda at: at.isoformat().encode(), {}),
    "none": (lambda _: None, {}),
}
SERVER_FORMS = {
    "timestamptz": (lambda at: at, {}),
    "timestamp": (in_zone(-5), {"time_format": "%d.%m.%Y"}),
    "date": (lambda at: at.date(), {}),
    "bigint": (lambda at: int(at.timestamp() * 1000), {}),
    "double precision": (lambda at: at.timestamp(), {"time_format": "s"}),
    "numeric": (julian, {"time_format": "julian"}),
    "text": (lambda at: MIXED[at.hour % 4](at), {}),
    "varchar(30)": (lambda at: f"{at:%Y%m%d%H%M}", {"time_format": "%Y%m%d%H%M"}),
}
CASES = [
    *(("rollback mode", name) for name in SQLITE_FORMS),
    ("WAL mode", "ISO 8601"),
    ("numbered", "seconds"),
    *((SERVER, name) for name in SERVER_FORMS),
]
LAW_CASES = CASES if THOROUGH else [
    ("rollback mode", "mixed"), ("WAL mode", "ISO 8601"), ("numbered", "seconds"), (SERVER, "timestamptz"),
]  # fmt: skip


def form_of(layout, name):
    return (SERVER_FORMS if layout == SERVER else SQLITE_FORMS | UNSORTED_FORMS)[name]


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr("monitor.synclog.sqlite_rows.PAGE_ROWS", 3)
    monkeypatch.setattr("monitor.synclog.postgres_pages.PAGES", 16)


@pytest.fixture
def open_log(tmp_path, small_pages, request):
    """Call it with a layout and a form for a log with nine rows; `write_at` sets the time of its next writes."""
    url = request.getfixturevalue("new_postgres")() if request.node.callspec.params["layout"] == SERVER else None

    def opened(layout, name):
        log = PostgresLog(url, name) if url else Log(tmp_path / f"{next(numbers)}.db", layout)
        written, more = form_of(layout, name)
        log.stamped(**more)
        log.write_at = lambda hours: setattr(log, "stamp", written(NOW + hours * HOUR))
        return filled(log)

    return opened


@pytest.fixture
def log(tmp_path, small_pages):
    with contextlib.closing(Log(tmp_path / "pipeline.db", "rollback mode").stamped()) as made:
        made.write_at = lambda hours: setattr(made, "stamp", (NOW + hours * HOUR).isoformat())
        yield filled(made)


@pytest.fixture
def target(engine, log):
    """A target that was synced once."""
    made = Target(engine, log)
    made.sync()
    return made


def fill(log, ids, hours):
    log.write_at(hours)
    for item_id in ids:
        log.add(item_id, -1)


def filled(log):
    """A log with old rows, and a recent one."""
    fill(log, "abcdefgh", OLD)
    fill(log, "z", -1)
    return log


def change_row(log, item_id, hours=None, group="x"):
    """Changes a row at a time, or with the time as it is."""
    if hours is None:
        log.execute("UPDATE log SET grp = ? WHERE id = ?", group, item_id)
    else:
        log.write_at(hours)
        log.execute("UPDATE log SET grp = ?, upd = ? WHERE id = ?", group, log.stamp, item_id)


def groups(target):
    return {item_id: group for item_id, _, group, removed_at, _ in target.stored()[0] if removed_at is None}


IDS = st.sampled_from([*"abcijklmnop", None, " ", "\x00"])
HOURS = st.none() | st.integers(-5, 5)
GROUPS = st.sampled_from([None, "x", "y", "hidden"])
PLACE = st.integers(0, 30)
CHANGES = st.one_of(
    st.tuples(st.just("add"), IDS, HOURS, GROUPS),
    st.tuples(st.just("group"), PLACE, GROUPS),
    st.tuples(st.just("date"), PLACE, HOURS),
    st.tuples(st.just("delete"), PLACE),
    st.tuples(st.just("move"), PLACE),
    st.tuples(st.just("rename"), PLACE, IDS),
    st.tuples(st.just("vacuum")),
)
LATE = st.sampled_from([0, 0, 1, 20, None])
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(CHANGES, LATE), max_size=3),
        st.sampled_from([0, 1, 2, 5, -3, 25]),
        st.sampled_from(["", "", "", "cut"]),
    ),
    min_size=2,
    max_size=8,
)


@pytest.mark.parametrize(("layout", "form"), LAW_CASES)
# of four times in the future three are quoted
@example(steps=[([], 0, ""), ([(("delete", 0), 0), (("add", "a", 0, None), 0)], -3, "")], earliest=False, number=1)
@settings(max_examples=200 if THOROUGH else 5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, earliest=st.booleans(), number=st.integers(1, 25))
def test_changes_with_a_recent_time_have_the_result_of_the_whole_log(
    engine, open_log, layout, form, steps, earliest, number
):
    options = {"earliest": earliest}
    with contextlib.closing(open_log(layout, form)) as log:
        log.spec = replace(log.spec, where={"grp": ("x", "y")}) if earliest else log.spec
        ours, oracle = targets = Target(engine, log), Target(engine, log)
        hours = 0
        for changes, passed, interruption in steps:
            hours += passed
            for each, late in changes:
                log.write_at(hours - (late or 0))
                log.stamp = None if late is None else log.stamp
                change(log, targets, *each)
            now = NOW + hours * HOUR
            if interruption and cut(ours, now, number, **options):
                continue
            expected = oracle.sync(now, whole=True, **options)
            report = ours.sync(now, **options) if not interruption else None
            assert ours.stored() == oracle.stored()
            if report is not None:
                assert comparable(report, layout) == comparable(expected, layout)


def read_again(log, hours, change_it):
    """The entries of the pages that changed by `change_it`, by id, and how many rows were read."""
    start, *pages = read_pages(log.spec, known={})
    since = Watermark(read_at=NOW + hours * HOUR, newest=start.newest, place=start.place)
    change_it()
    start, *found = read_pages(log.spec, known={page.key: page.digest for page in pages}, since=since)
    assert start.doubt is None
    return {entry.item_id for page in found for entry in page.entries or ()}, sum(page.rows for page in found)


@pytest.mark.parametrize(("layout", "form"), CASES)
def test_only_pages_with_a_recent_time_are_read(open_log, layout, form):
    with contextlib.closing(open_log(layout, form)) as log:
        assert read_again(log, 0, lambda: None)[1] < 9
        changed, rows = read_again(log, 1, lambda: change_row(log, "e", 2))
        assert ("e" in changed, rows < 9) == (True, True)
        changed, rows = read_again(log, 2, lambda: fill(log, "y", 3))
        assert ("y" in changed, rows < 10) == (True, True)


@pytest.mark.parametrize(("layout", "form"), [("WAL mode", name) for name in UNSORTED_FORMS])
def test_times_whose_order_is_not_that_of_time_are_read_each_time(open_log, layout, form):
    with contextlib.closing(open_log(layout, form)) as log:
        changed, rows = read_again(log, 1, lambda: change_row(log, "e", OLD))
        assert ("e" in changed, rows) == (True, 9)


def test_rows_with_the_time_of_the_newest_are_found(target, log):
    fill(log, "ij", 0)
    target.sync()
    change_row(log, "i", 0)
    fill(log, "k", 0)
    assert target.sync(NOW + HOUR).new == 1
    assert groups(target)["i"] == "x"


def test_a_transaction_that_commits_a_day_late_is_found(target, log):
    fill(log, "i", 10)
    target.sync(NOW + 10 * HOUR)
    change_row(log, "a", -14)
    target.sync(NOW + 11 * HOUR)
    assert (groups(target)["a"], target.doubts) == ("x", [None])


def test_rows_that_come_later_than_the_newest_are_found_however_old_they_are(target, log):
    log.execute("DELETE FROM log WHERE id = 'z'")
    target.sync(NOW + HOUR)
    change_row(log, "d", OLD + 1)
    target.sync(NOW + 2 * HOUR)
    assert (groups(target)["d"], target.doubts) == ("x", [None])


def test_a_row_without_a_time_is_read_each_time(target, log):
    log.execute("UPDATE log SET upd = NULL WHERE id = 'd'")
    change_row(log, "d")
    target.sync(NOW + HOUR)
    assert (groups(target)["d"], target.rows) == ("x", 6)


def test_a_change_that_leaves_the_time_is_found_after_a_day(target, log):
    change_row(log, "a")
    target.sync(NOW + 23 * HOUR)
    assert (groups(target)["a"], target.rows) == (None, 3)
    target.sync(NOW + DAY)
    assert groups(target)["a"] == "x"


def rebuild(log):
    log.execute("DELETE FROM log WHERE id = 'a'")
    log.execute("VACUUM")
    log.write_at(OLD)
    log.add("x", -1)


def swap(log):
    log.execute("DELETE FROM log WHERE id = 'a'")
    fill(log, "x", 1)


DOUBTS = {
    "a row is deleted": lambda log: log.execute("DELETE FROM log WHERE id = 'a'"),
    "as many are deleted and added": swap,
    "a row is added with an old time": lambda log: log.execute(
        "INSERT INTO log (rowid, id, upd) VALUES (-5, 'x', '2020-01-01')"
    ),
    "an id becomes another": lambda log: log.execute(
        "UPDATE log SET id = 'x', upd = ? WHERE id = 'a'", NOW.isoformat()
    ),
    "the newest time goes back": lambda log: log.execute("UPDATE log SET upd = '2026-01-01', grp = 'x'"),
    "no time can be read": lambda log: log.execute("UPDATE log SET upd = 'soon', grp = 'x'"),
    "rows are numbered anew": rebuild,
    "the table has another column": lambda log: log.execute("ALTER TABLE log ADD COLUMN more") and change_row(log, "a"),
}


@pytest.mark.parametrize("doubt", DOUBTS.values(), ids=DOUBTS)
def test_with_a_doubt_all_pages_are_compared(engine, target, log, doubt):
    doubt(log)
    report = target.sync(NOW + HOUR)
    assert target.rows >= 8
    assert target.opened > 1 or target.doubts != [None]
    oracle = Target(engine, log)
    oracle.sync(NOW, whole=True)
    assert groups(target) == groups(oracle)
    assert report.tracked == len(groups(oracle))
    target.sync(NOW + HOUR)
    assert target.doubts == [None]


def test_another_file_is_compared(target, log):
    change_row(log, "a")
    copied = log.path.with_suffix(".copy")
    copied.write_bytes(log.path.read_bytes())
    copied.replace(log.path)
    target.sync(NOW + HOUR)
    assert groups(target)["a"] == "x"


def test_another_setting_compares_all_pages(target, log):
    log.spec = replace(log.spec, where={"id": "not null"})
    target.sync(NOW + HOUR)
    assert target.read == 9


def test_the_column_can_be_named_later(engine, log):
    log.spec, spec = replace(log.spec, updated_at_column=None), log.spec
    target = Target(engine, log)
    target.sync()
    log.spec = spec
    change_row(log, "a")
    target.sync(NOW + HOUR)
    assert (groups(target)["a"], target.rows) == ("x", 9)
    target.sync(NOW + 2 * HOUR)
    assert target.rows == 3


def test_a_clock_that_went_back_compares_all_pages(target, log):
    fill(log, "i", 3)
    target.sync(NOW + 3 * HOUR)
    change_row(log, "a")
    target.sync(NOW + 2 * HOUR)
    assert groups(target)["a"] == "x"


def test_a_row_that_leaves_the_filter_is_removed(target, log):
    log.spec = replace(log.spec, where={"grp": "null"})
    target.sync(NOW + HOUR)
    change_row(log, "d", 2)
    fill(log, "i", 2)
    assert (target.sync(NOW + 2 * HOUR).removed, sorted(groups(target))) == (1, list("abcefghiz"))


def test_a_load_of_many_rows_is_settled_when_it_is_long_past(target, log, monkeypatch):
    monkeypatch.setattr("monitor.synclog.sqlite_rows._MIN_CHANGED", 4)
    log.execute("DELETE FROM log WHERE id = 'z'")
    target.sync(NOW + HOUR)
    target.sync(NOW + HOUR)
    assert (target.rows, target.doubts) == (0, [None])
    fill(log, "ijklm", 1)
    target.sync(NOW + HOUR)
    assert target.doubts == ["very many rows may have changed"]
    change_row(log, "i")
    target.sync(NOW + 2 * HOUR)
    assert groups(target)["i"] == "x"


def test_an_upload_time_counts_as_soon_as_it_is_past(target, log):
    fill(log, "i", 0)
    log.execute("UPDATE log SET at = ?, upd = ? WHERE id = 'd'", (NOW + 2 * HOUR).isoformat(), log.stamp)
    assert target.sync(NOW + HOUR).future == 1
    log.execute("UPDATE log SET upd = '2026-02-20' WHERE id = 'd'")
    assert (target.sync(NOW + 2 * HOUR).future, target.doubts) == (0, [None])
