"""The histograms of times to indexed on real databases: each upload counts once, whatever happens to it and to them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select
from support.syncing import sync_worklist

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.tables import item_events, items, runs, slowest_uploads, time_to_indexed
from monitor.database.tables import leases as lease_rows
from monitor.model import ItemState, Outcome, SyncLogEntry
from monitor.model.items import transition
from monitor.rollups import indexing_queries as queries
from monitor.rollups import indexing_store as store
from monitor.rollups.bounds import bound_ms, slot_start
from monitor.rollups.indexing import Watch
from monitor.runs import outcomes as outcome_store
from monitor.runs import worklist

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TARGET = "gloo"
EVER = {"since": NOW - 900 * DAY, "until": NOW + 900 * DAY}
BAD = (ItemState.FAILED, ItemState.INVALID, ItemState.NOT_FOUND)


@dataclass
class Log:
    """A sync log that the test keeps, and what its target was found to be."""

    engine: object
    epoch: int
    now: datetime = NOW

    def sync(self, entries):
        batch = [SyncLogEntry(item_id=name, submitted_at=at, group=group) for name, (at, group) in entries.items()]
        sync_worklist(
            self.engine, target=TARGET, epoch=self.epoch, run_id=1, batches=[batch], now=self.now, keep_if_empty=False
        )

    def find(self, states, *, watch=Watch(usual_gap=HOUR), run_id=1):  # noqa: B008  # immutable
        with writing(self.engine) as conn:
            rows = conn.execute(select(*worklist._TRACKED).where(items.c.item_id.in_(states))).all()
            known = {row.item_id: worklist._tracked(row) for row in rows}
            changes = [
                transition(known[name], Outcome(item_id=name, state=state, at=self.now, answered=True))
                for name, state in states.items()
                if name in known
            ]
            outcome_store.record(conn, target=TARGET, run_id=run_id, changes=changes, watch=watch)

    def drop(self):
        with writing(self.engine) as conn:
            store.drop_old_slots(conn, target=TARGET, now=self.now)

    def times(self, **period):
        with reading(self.engine) as conn:
            bounds = tuple((EVER | period).values())
            return queries.times_of_period(conn, targets=[TARGET], bounds=bounds)[TARGET].groups

    def counts(self, within, **period):
        asked = queries.Uploads(target=TARGET, within=within, now=self.now, **(EVER | period))
        with reading(self.engine) as conn:
            [found] = queries.indexing_counts(conn, [asked])
            return found

    def sums(self, within, **period):
        found = self.counts(within, **period)
        return sum(each.due for each in found), sum(each.good for each in found)

    def widths(self):
        with reading(self.engine) as conn:
            slots = select(time_to_indexed.c.slot_s, time_to_indexed.c.starts_at).where(time_to_indexed.c.slot_s > 0)
            return sorted(set(map(tuple, conn.execute(slots))))


def empty(engine):
    with writing(engine) as conn:
        for table in (items, item_events, time_to_indexed, slowest_uploads, lease_rows, runs):
            conn.execute(delete(table))
        return leases.acquire(conn, target=TARGET, holder="h:1", now=NOW, ttl=HOUR)


@pytest.fixture
def log(engine):
    return Log(engine, empty(engine))


def observed(log, uploads):
    """Uploads that are pending, and then completed, each after its time."""
    log.sync({name: (at, group) for name, (at, group, _) in uploads.items()})
    for name, (at, _, took) in uploads.items():
        log.now = at + took - MINUTE
        log.find({name: ItemState.PENDING})
        log.now = at + took
        log.find({name: ItemState.COMPLETED})


def test_times_are_known_by_group_and_in_all(log):
    observed(
        log, {"a": (NOW - HOUR, "x", 2 * MINUTE), "b": (NOW - HOUR, "x", 9 * MINUTE), "c": (NOW, None, 3 * MINUTE)}
    )
    by_group = log.times()
    assert {name: (each.indexed, each.sum_s) for name, each in by_group.items()} == {"x": (2, 660.0), "": (1, 180.0)}
    total = queries.add_up(by_group.values())
    assert total.buckets == {120_000: 1, bound_ms(9 * MINUTE): 1, bound_ms(3 * MINUTE): 1}
    with reading(log.engine) as conn:
        assert queries.all_times(conn, targets=[TARGET, "none"]) == {TARGET: total}


def test_only_the_period_is_read(log):
    observed(log, {"a": (NOW - 2 * HOUR, None, MINUTE), "b": (NOW - HOUR, None, MINUTE)})
    log.sync(
        {"a": (NOW - 2 * HOUR, None), "b": (NOW - HOUR, None), "c": (NOW - 2 * HOUR, None), "d": (NOW - HOUR, None)}
    )
    [late] = log.times(since=NOW - HOUR).values()
    [early] = log.times(until=NOW - HOUR).values()
    assert [(each.indexed, each.waiting) for each in (late, early)] == [(1, 1), (1, 1)]


def test_what_was_completed_at_first_sight_is_not_observed(log):
    log.sync({"old": (NOW - 30 * DAY, None), "new": (NOW - MINUTE, None)})
    log.find(dict.fromkeys(("old", "new"), ItemState.COMPLETED), watch=Watch(previous_started_at=NOW - 5 * MINUTE))
    [times] = log.times().values()
    assert (times.not_observed, times.indexed, times.uploads) == (1, 1, 2)
    assert log.sums(15 * MINUTE) == (1, 1)


def test_the_fate_of_each_upload_is_decided_in_its_time(log):
    at = NOW - 10 * MINUTE
    log.sync(dict.fromkeys(("fast", "slow", "failed", "invalid", "lost", "pending"), (at, None)))
    log.find({"slow": ItemState.PENDING, "lost": ItemState.NOT_FOUND, "pending": ItemState.PENDING,
              "failed": ItemState.FAILED, "invalid": ItemState.INVALID, "fast": ItemState.PENDING})  # fmt: skip
    assert log.sums(15 * MINUTE) == (2, 0)
    log.find({"fast": ItemState.COMPLETED})
    assert log.sums(15 * MINUTE) == (3, 1)
    log.now = at + 15 * MINUTE
    assert log.sums(15 * MINUTE) == (6, 1)
    log.now = at + 16 * MINUTE
    log.find({"slow": ItemState.COMPLETED})
    assert (log.sums(15 * MINUTE), log.sums(30 * MINUTE)) == ((6, 1), (4, 2))
    start = slot_start(at, 5 * MINUTE)
    narrow = {"since": start, "until": start + 5 * MINUTE}
    assert {(each.start, each.length) for each in log.counts(15 * MINUTE, **narrow)} == {(start, 5 * MINUTE)}
    assert log.counts(15 * MINUTE, since=start + 5 * MINUTE) == log.counts(15 * MINUTE, until=start) == []


def test_one_group_is_counted_alone(log):
    observed(log, {"a": (NOW, "x", MINUTE), "b": (NOW, None, MINUTE)})
    log.sync({"a": (NOW, "x"), "b": (NOW, None), "c": (NOW, "x"), "d": (NOW, "y")})
    log.now = NOW + HOUR
    assert [log.sums(MINUTE, group=name) for name in ("x", "", "y", "z")] == [(2, 1), (1, 1), (1, 0), (0, 0)]


def test_a_failed_upload_that_left_the_log_stays_and_comes_back_as_it_was(log):
    row = {"a": (NOW - HOUR, "x")}
    log.sync(row | {"b": (NOW, "x")})
    log.find({"a": ItemState.FAILED})
    log.sync({"b": (NOW, "x")})
    assert (log.times()["x"].failed, log.sums(MINUTE)) == (1, (1, 0))
    with writing(log.engine) as conn:
        worklist.ignore(conn, target=TARGET, item_ids=["a"], reason="r", now=NOW)
    assert log.times()["x"].failed == 0
    with writing(log.engine) as conn:
        worklist.unignore(conn, target=TARGET, item_ids=["a"], now=NOW)
    assert log.times()["x"].failed == 1
    log.sync({"a": (NOW - 2 * HOUR, "y"), "b": (NOW, "x")})  # with another time and group
    assert {name: each.failed for name, each in log.times().items()} == {"x": 0, "y": 1}


def test_narrow_slots_are_dropped_when_they_are_old_and_nothing_is_lost(log):
    ages = [MINUTE, 3 * DAY, 5 * DAY, 10 * DAY, 10 * DAY + 7 * MINUTE, 37 * DAY, 40 * DAY, 400 * DAY]
    observed(log, {f"i{n}": (NOW - age, "g" if n % 2 else None, MINUTE) for n, age in enumerate(ages)})
    before = log.times()
    log.now = NOW
    log.drop()
    assert log.times() == before
    assert [width for width, _ in log.widths() if width == 300] == [300] * 2
    assert {(NOW - start) // DAY for width, start in log.widths() if width == 3600} == {0, 3, 5, 10}
    assert all(start == slot_start(start, timedelta(seconds=width)) for width, start in log.widths())
    assert log.sums(HOUR) == (8, 8)


def test_a_late_upload_is_only_in_slots_that_are_kept(log):
    observed(log, {"a": (NOW - 20 * DAY, None, MINUTE)})  # in slots of five minutes: nothing has dropped them
    log.now = NOW - 19 * DAY
    log.sync({"a": (NOW - 20 * DAY, None), "b": (NOW - 20 * DAY, None)})
    log.find({"b": ItemState.PENDING})
    log.now = NOW
    log.find({"b": ItemState.COMPLETED}, watch=Watch(usual_gap=100 * DAY))
    assert [width for width, _ in log.widths()] == [3600, 86400, 604800]
    assert log.sums(30 * DAY) == (2, 2)


def test_slots_are_wide_between_cuts_and_add_up_to_the_same(log):
    observed(log, {f"i{n}": (NOW - n * 7 * HOUR - 3 * MINUTE, None, MINUTE) for n in range(12)})
    log.now = NOW
    cuts = tuple(NOW - each for each in (5 * MINUTE, HOUR, 6 * HOUR, 3 * DAY))
    counts = log.counts(HOUR, since=NOW - 4 * DAY, until=NOW, cuts=cuts)
    assert sum(each.due for each in counts) == sum(each.due for each in log.counts(HOUR)) == 12
    assert len(counts) < 12, "slots in a row of one width are counted together"
    assert all(
        each.length == 5 * MINUTE or not each.start < cut < each.start + each.length for each in counts for cut in cuts
    )
    for cut in cuts:
        fine = [each for each in counts if each.start >= cut]
        assert sum(each.due for each in fine) == log.sums(HOUR, since=cut, until=NOW)[0]


IDS = ("a", "b", "c", "d")
STEPS = st.one_of(
    st.tuples(st.just("sync"), st.sets(st.sampled_from(IDS))),
    st.tuples(st.just("find"), st.dictionaries(st.sampled_from(IDS), st.sampled_from(list(ItemState)[:5]), min_size=1)),
    st.tuples(st.sampled_from(["ignore", "unignore"]), st.sampled_from(IDS)),
    st.tuples(st.just("wait"), st.sampled_from([MINUTE, HOUR, 5 * DAY, 40 * DAY])),
)


class Oracle:
    """What the single uploads say: no histogram, no slots."""

    def __init__(self):
        self.rows = {}

    def sync(self, names, now):
        for name in names:
            row = self.rows.setdefault(
                name, {"at": now, "state": None, "took": None, "done": False, "ignored": False, "gone": False}
            )
            row["gone"] = False
        for name in self.rows.keys() - names:
            self.rows[name]["gone"] = True

    def find(self, name, state, now):
        row = self.rows.get(name)
        if row is None:
            return
        if state is ItemState.COMPLETED and not row["done"]:
            row["done"] = True
            row["took"] = now - row["at"] if row["state"] is not None and now - row["seen"] <= max(
                3 * HOUR, row["seen"] - row["at"]) else None  # fmt: skip
        row["state"], row["seen"] = state, now

    def counts(self, within, now):
        due = good = 0
        for row in self.rows.values():
            if row["done"]:
                due += row["took"] is not None
                good += row["took"] is not None and row["took"] <= within
            elif row["ignored"]:
                continue
            elif row["gone"]:
                due += row["state"] in BAD
            else:
                due += row["state"] in BAD[:2] or now - row["at"] >= within
        return due, good


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_the_counts_are_those_of_the_single_uploads(engine, steps):
    log, oracle = Log(engine, empty(engine)), Oracle()
    uploaded = {}
    for step, value in steps:
        match step:
            case "sync":
                uploaded |= {name: (log.now, None) for name in value if name not in uploaded}
                log.sync({name: uploaded[name] for name in value})
                oracle.sync(set(value), log.now)
            case "find":
                asked = {name: state for name, state in value.items() if name in oracle.rows}
                asked = {name: s for name, s in asked.items()
                         if not oracle.rows[name]["gone"] and not oracle.rows[name]["ignored"]}  # fmt: skip
                log.find(asked)
                for name, state in asked.items():
                    oracle.find(name, state, log.now)
            case "wait":
                log.now += value
                log.drop()
            case _:
                with writing(engine) as conn:
                    change = worklist.ignore if step == "ignore" else worklist.unignore
                    change(
                        conn,
                        target=TARGET,
                        item_ids=[value],
                        now=log.now,
                        **({"reason": "r"} if step == "ignore" else {}),
                    )
                if value in oracle.rows:
                    oracle.rows[value]["ignored"] = step == "ignore"
    period = {"since": NOW - 7 * DAY, "until": log.now + DAY}  # a week begins before it
    assert log.sums(HOUR, **period) == oracle.counts(HOUR, log.now)
    with reading(engine) as conn:
        counted = queries.all_times(conn, targets=[TARGET]).get(TARGET, queries.TimesToIndexed())
    assert counted.indexed + counted.not_observed == sum(row["done"] for row in oracle.rows.values())
