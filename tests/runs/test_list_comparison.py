"""A list that is as it was is not compared again with items that are as they were, and nothing is missed by that."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, func, insert, select, update
from support.scale import examples
from support.syncing import sync_worklist

from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.database.retry import with_retry
from monitor.database.tables import items
from monitor.errors import LeaseLostError, StoreUnavailableError
from monitor.model import SyncLogEntry
from monitor.providers import Listing
from monitor.runs import compared_lists, completions, list_comparison
from monitor.runs.list_check import reconcile
from monitor.runs.list_comparison import ListComparison

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDS = [*"ABCDEF", "bad"]
LIST = "/engine/v2/publisher"
_targets = itertools.count()


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    monkeypatch.setattr(list_comparison, "MANY_ITEMS", 3)


class Spelling:
    """The part of a provider that a comparison asks."""

    name = "api"

    def canonical(self, item_id):
        return item_id.lower()

    def valid_id(self, item_id):
        return item_id != "bad"


class Target:
    """The work list of one target, its lease, and a clock."""

    def __init__(self, engine):
        self.engine, self.name, self.now = engine, f"t{next(_targets)}", NOW
        with writing(engine) as conn:
            self.epoch = leases.acquire(conn, target=self.name, holder="h:1", now=NOW, ttl=timedelta(days=9))

    def sync(self, ids):
        batch = [SyncLogEntry(item_id=item_id, submitted_at=NOW) for item_id in ids]
        sync_worklist(self.engine, target=self.name, epoch=self.epoch, run_id=1, batches=[batch], now=self.now)

    def set(self, ids, **values):
        with writing(self.engine) as conn:
            where = items.c.target == self.name, items.c.item_id.in_(list(ids))
            conn.execute(update(items).where(*where).values(values))

    def complete(self, ids):
        self.set(ids, known_state="completed", state="completed")

    def all(self):
        return completions.iter_completions(self.engine, target=self.name)

    def comparison(self, **changes):
        tracked = sum(map(len, self.all()))
        with reading(self.engine) as conn:
            rows = conn.scalar(select(func.count()).where(items.c.target == self.name))
        counts = {"tracked": tracked, "rows": rows, "utcnow": lambda: self.now}
        settings = counts | {"provider": Spelling(), "probed_id": None, "read_completions": self.all} | changes
        return ListComparison(engine=self.engine, target=self.name, epoch=self.epoch, **settings)

    def compare(self, listing, **changes):
        """One comparison, and how often ids of settled items were read for it, and for the next."""
        comparison = self.comparison(**changes)
        with counted_reads() as first:
            found = comparison.reconcile(listing)
        with counted_reads() as second:
            comparison.remember(listing)
        assert found == reconcile(self.all(), listing, canonical=str.lower, valid=Spelling().valid_id)
        return len(first), len(second)


class counted_reads:  # noqa: N801  # a context manager
    """Statements that read the ids of settled items."""

    def __enter__(self):
        self._found = []
        event.listen(Engine, "before_cursor_execute", self._executed)
        return self._found

    def __exit__(self, *_):
        event.remove(Engine, "before_cursor_execute", self._executed)

    def _executed(self, _conn, _cursor, sql, *_):
        if "json_group_array" in sql or "array_agg" in sql:
            self._found.append(sql)


def listing(completed, others=()):
    made = Listing()
    made.add_completed("COMPLETED", [each.lower() for each in completed])
    made.add_others([each.lower() for each in others])
    return made


@pytest.fixture
def target(engine):
    made = Target(engine)
    made.sync("ABCDEF")
    made.complete("ABCDE")
    return made


def test_the_same_list_is_compared_once(target):
    same = "abcde", "f"
    assert target.compare(listing(*same))[0] > 0
    assert target.compare(listing(*same)) == (0, 0)
    assert target.compare(listing(*same)) == (0, 0)
    assert target.compare(listing("bacde", "f"))[0] > 0


def test_a_list_that_does_not_confirm_all_is_compared_again(target):
    for _ in range(2):
        assert target.compare(listing("abcd", "f"))[0] > 0


def test_after_many_items_were_settled_they_are_compared_for_the_next_run(target, monkeypatch):
    monkeypatch.setattr(completions.read_unsettled, "__kwdefaults__", {"limit": 3})
    target.set("ABCDE", known_state=None, state="unknown")
    comparison = target.comparison()
    comparison.reconcile(listing("abcde", "f"))
    target.complete("ABCDE")
    comparison.remember(listing("abcde", "f"))
    assert target.compare(listing("abcde", "f")) == (0, 0)


def test_an_item_that_was_settled_since_is_looked_up_alone(target):
    comparison = target.comparison()
    comparison.reconcile(listing("abcdef"))
    target.complete("F")
    with counted_reads() as reads:
        comparison.remember(listing("abcdef"))
    assert not reads
    assert target.compare(listing("abcdef")) == (0, 0)


def test_an_item_that_was_settled_without_the_list_is_compared(target):
    comparison = target.comparison()
    comparison.reconcile(listing("abcde"))
    target.complete("F")
    comparison.remember(listing("abcde"))
    assert target.compare(listing("abcde"))[0] > 0


def test_a_new_item_is_compared(target):
    target.set("F", ignored_at=NOW)
    target.compare(listing("abcde"))
    target.sync("ABCDEFG")
    target.complete("G")
    assert target.compare(listing("abcde"))[0] > 0


def test_an_item_that_another_process_added_is_compared(target):
    """An older build that still runs forgets nothing."""
    target.compare(listing("abcde", "f"))
    with writing(target.engine) as conn:
        values = {
            "target": target.name,
            "item_id": "G",
            "first_seen_at": NOW,
            "state": "unknown",
            "reason": "not_asked",
        }
        conn.execute(insert(items), values)
    target.complete("G")
    assert target.compare(listing("abcde", "f"))[0] > 0


@pytest.mark.parametrize(("before", "after"), [(None, NOW), (NOW, None)], ids=["ignored", "unignored"])
def test_an_item_that_is_ignored_while_the_list_is_read_is_not_counted(target, before, after):
    target.set("F", ignored_at=before)
    target.compare(listing("abcde", "f"))
    comparison = target.comparison()
    target.set("F", ignored_at=after)
    with counted_reads() as reads:
        found = comparison.reconcile(listing("abcde", "f"))
    assert not reads
    assert found == reconcile(target.all(), listing("abcde", "f"), canonical=str.lower, valid=Spelling().valid_id)


def test_a_short_outage_of_the_database_is_waited_for(target, monkeypatch):
    target.compare(listing("abcde", "f"))
    look_up, faults = compared_lists.is_known, [StoreUnavailableError("away")]

    def is_known(conn, **which):
        if faults:
            raise faults.pop()
        return look_up(conn, **which)

    monkeypatch.setattr(compared_lists, "is_known", is_known)
    target.engine = with_retry(target.engine, should_stop=lambda: False)
    assert target.compare(listing("abcde", "f")) == (0, 0)


def test_what_is_found_for_the_next_run_does_not_delay_this_one(target):
    comparison = target.comparison()
    comparison.reconcile(listing("abcde", "f"))
    comparison.remember(listing("abcde", "f"), should_stop=lambda: True)
    assert target.compare(listing("abcde", "f"))[0] > 0


def test_the_comparison_of_all_for_the_next_run_ends_in_time(target, monkeypatch):
    monkeypatch.setattr(completions.read_unsettled, "__kwdefaults__", {"limit": 3})
    target.set("ABCDE", known_state=None, state="unknown")
    comparison = target.comparison()
    comparison.reconcile(listing("abcde", "f"))
    target.complete("ABCDE")
    answers = iter((False, True))
    comparison.remember(listing("abcde", "f"), should_stop=lambda: next(answers))
    assert target.compare(listing("abcde", "f"))[0] > 0


@pytest.mark.parametrize("clock", [timedelta(days=1), -timedelta(seconds=1)], ids=["a day later", "set back"])
def test_a_list_is_compared_at_least_once_a_day(target, clock):
    target.compare(listing("abcde"))
    target.now += clock
    assert target.compare(listing("abcde"))[0] > 0
    assert target.compare(listing("abcde")) == (0, 0)


def test_another_spelling_of_ids_is_compared(target):
    target.compare(listing("abcde"))

    class Uuids(Spelling):
        uuid_ids = True

    assert target.compare(listing("abcde"), provider=Uuids())[0] > 0


def test_a_probed_item_is_left_out(target):
    target.compare(listing("abcde"))
    comparison = target.comparison(probed_id="A")
    with counted_reads() as reads:
        found = comparison.reconcile(listing("abcde"))
    assert (found.tracked, found.confirmed, found.missing, len(reads)) == (5, 4, 1, 0)


def test_nothing_is_stored_under_a_lease_that_was_lost(target):
    comparison = target.comparison()
    comparison.reconcile(listing("abcde"))
    comparison.epoch -= 1
    with pytest.raises(LeaseLostError):
        comparison.remember(listing("abcde"))
    assert target.compare(listing("abcde"))[0] > 0


some = st.sets(st.sampled_from(IDS), max_size=4)
states = st.sampled_from(
    [
        {"known_state": "completed", "state": "completed"},
        {"known_state": "completed", "state": "unknown"},
        {"known_state": "failed", "state": "failed"},
        {"ignored_at": NOW},
        {"ignored_at": None},
    ]
)
steps = st.tuples(
    st.sampled_from(["sync", "set", "meanwhile", "later", "nothing"]), some, states, st.sampled_from([0, 0, 1, 2]), some
)


@given(st.lists(steps, min_size=2, max_size=8))
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_comparison_finds_what_one_without_memory_finds(engine, script):
    """Whatever happens to the work list and to the list between two runs, and within one."""
    target = Target(engine)
    target.sync(IDS[:5])
    target.complete(IDS[:4])
    lists = [(IDS[:4], IDS[4:5]), (IDS, ()), (IDS[:3], IDS[3:])]
    for kind, ids, values, number, settled in script:
        if kind == "sync":
            target.sync(ids | {"A", "B", "C"})
        elif kind == "set":
            target.set(ids, **values)
        elif kind == "later":
            target.now += timedelta(hours=13)
        comparison = target.comparison()
        if kind == "meanwhile":
            target.set(ids, ignored_at=values.get("ignored_at"))
        found = comparison.reconcile(listing(*lists[number]))
        expected = reconcile(target.all(), listing(*lists[number]), canonical=str.lower, valid=Spelling().valid_id)
        assert (found, found.unconfirmed) == (expected, expected.unconfirmed)
        target.complete(settled)
        comparison.remember(listing(*lists[number]))
