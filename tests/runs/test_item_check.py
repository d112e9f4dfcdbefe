import asyncio
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import astuple
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.fakes import FakeItemClient, FakeProvider, ok, refused
from support.samples import NOW

from monitor.errors import StoreError
from monitor.incidents.evidence import EvidenceCollector
from monitor.model import Cause, ItemState, Latencies, Outcome, Reason
from monitor.model.http import DEADLINE_EXCEEDED, NetworkFault
from monitor.model.items import TrackedItem, transition
from monitor.runs import item_check
from monitor.runs.item_check import BATCH_SIZE, FLUSH_INTERVAL_S, LAST_SIZE, ItemCheck, OutcomeBuffer
from monitor.runs.progress import NoProgress

FORBIDDEN = refused(403, code="forbidden")
UNAVAILABLE = refused(503)


class Store:
    """Stores batches like the work list, in any thread; counts concurrent calls."""

    def __init__(self, *, takes_s=0.0, fails_at=None):
        self.batches, self.overlaps = [], 0
        self._busy, self._takes_s, self._fails_at = threading.Lock(), takes_s, fails_at

    def __call__(self, changes):
        if not self._busy.acquire(blocking=False):
            self.overlaps += 1
            return
        time.sleep(self._takes_s)
        self.batches.append(list(changes))
        self._busy.release()
        if self._fails_at == len(self.batches):
            raise StoreError("the database is gone; look for it")

    @property
    def stored(self):
        return {change.item_id: change for batch in self.batches for change in batch}


class Watcher(NoProgress):
    def __init__(self):
        self.finished = 0

    def advance(self):
        self.finished += 1


def items(*ids):
    return [TrackedItem(item_id=item_id, first_seen_at=NOW) for item_id in ids]


def numbered(count, size=7):
    ids = [f"i{n:04}" for n in range(count)]
    return iter([items(*ids[start : start + size]) for start in range(0, count, size)])


class Pass:
    """One check with fakes."""

    def __init__(self, asker=None, *, store=None, concurrency=8, deadline_s=60.0, grace_s=60.0, **more):
        self.asker, self.store = asker or FakeItemClient(), store or Store()
        self.interrupt, self.progress = asyncio.Event(), Watcher()
        self.check = ItemCheck(
            provider=FakeProvider(),
            client=self.asker,
            record=self.store,
            concurrency=concurrency,
            deadline_s=time.monotonic() + deadline_s,
            interrupt=self.interrupt,
            progress=self.progress,
            utcnow=lambda: NOW,
            grace_s=grace_s,
            **more,
        )

    async def over(self, due):
        async with asyncio.timeout(30):
            return await self.check.run(due if hasattr(due, "__next__") else iter([due]))

    @asynccontextmanager
    async def under_way(self, due):
        running = asyncio.create_task(self.over(due))
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # the fakes are watched from outside
            await asyncio.sleep(0.001)


async def test_every_due_item_is_asked_about_once_and_stored():
    one = Pass()
    report = await one.over(numbered(100))
    assert sorted(one.asker.asked) == sorted(one.store.stored) == [f"i{n:04}" for n in range(100)]
    assert (report.asked, report.requests, report.retries) == (100, 100, 0)
    assert (report.stopped_by, report.cut_short_by) == (None, None)
    assert one.progress.finished == report.tally.answered == 100
    assert astuple(report.latencies) == pytest.approx((1.0, 1.0), rel=0.05)


async def test_a_check_without_due_items_sends_nothing():
    report = await Pass().over(iter([]))
    assert (report.asked, report.requests, report.cut_short_by, report.latencies) == (0, 0, None, Latencies())


@pytest.mark.parametrize("concurrency", [1, 2, 5, 16])
async def test_no_more_requests_are_in_flight_than_allowed(concurrency):
    go_on = asyncio.Event()

    async def hang_once_one_was_accepted(item_id):
        if item_id != "i0000":
            await go_on.wait()

    one = Pass(FakeItemClient(before=hang_once_one_was_accepted), concurrency=concurrency)
    async with one.under_way(numbered(80)) as running:
        await until(lambda: one.asker.in_flight == concurrency and one.progress.finished == 1)
        go_on.set()
        assert (await running).asked == 80
    assert one.asker.max_in_flight == concurrency


async def test_the_outcome_of_each_answer_is_stored():
    one = Pass(
        FakeItemClient(
            answers={
                "gone": refused(404),
                "failed": ok("failed"),
                "odd": ok("garbage"),
                "down": UNAVAILABLE,
                "silent": refused(network=NetworkFault.TIMEOUT),
            }
        )
    )
    report = await one.over(items("fine", "gone", "failed", "odd", "down", "silent", "bad id"))
    rows = {item_id: dict(change.changed) for item_id, change in one.store.stored.items()}
    found = {item_id: (row["state"], row.get("reason")) for item_id, row in rows.items()}
    assert found == {
        "fine": (ItemState.COMPLETED, None),
        "gone": (ItemState.NOT_FOUND, None),
        "failed": (ItemState.FAILED, None),
        "odd": (ItemState.UNKNOWN, Cause.BAD_RESPONSE),
        "down": (ItemState.UNKNOWN, Cause.OUTAGE),
        "silent": (ItemState.UNKNOWN, Cause.OUTAGE),
        "bad id": (ItemState.INVALID, None),
    }
    assert report.tally.answered == 3


async def test_retries_are_counted_as_requests():
    one = Pass(FakeItemClient(answers={"slow": replace(ok(), attempts=4), "unsent": replace(UNAVAILABLE, attempts=0)}))
    report = await one.over(items("slow", "unsent", "plain"))
    assert (report.requests, report.retries) == (5, 3)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 5, 32])
async def test_a_target_that_refuses_us_gets_exactly_five_requests(concurrency):
    one = Pass(FakeItemClient(default=FORBIDDEN), concurrency=concurrency)
    report = await one.over(numbered(50))
    assert len(one.asker.asked) == report.requests == 5
    assert (report.stopped_by, report.cut_short_by) == (Cause.FORBIDDEN, None)


async def test_403s_do_not_stop_a_target_whose_list_contained_our_items():
    one = Pass(FakeItemClient(default=FORBIDDEN))
    one.check.confirm_access()
    report = await one.over(numbered(50))
    assert (report.asked, report.requests, report.stopped_by, report.cut_short_by) == (50, 50, None, None)


async def test_malformed_ids_cause_no_request_and_are_not_among_the_first_five():
    one = Pass(FakeItemClient(default=FORBIDDEN), concurrency=4)
    ids = [f"bad{n}" for n in range(9)] + [f"i{n}" for n in range(20)]
    report = await one.over(items(*ids))
    assert one.asker.asked == ["i0", "i1", "i2", "i3", "i4"]
    assert report.stopped_by is Cause.FORBIDDEN
    quarantined = {
        item_id for item_id, change in one.store.stored.items() if ("state", ItemState.INVALID) in change.changed
    }
    assert quarantined == {f"bad{n}" for n in range(9)}


async def test_only_five_items_are_asked_about_before_the_first_answer():
    gate = asyncio.Event()
    one = Pass(FakeItemClient(gate=gate), concurrency=20)
    async with one.under_way(numbered(60)) as running:
        await until(lambda: one.asker.in_flight == 5)
        await asyncio.sleep(0.02)
        assert len(one.asker.asked) == 5
        gate.set()
        report = await running
    assert report.asked == 60


async def test_one_answer_starts_the_others_while_four_requests_hang():
    hanging = asyncio.Event()

    async def all_but_the_first(item_id):
        if item_id in {"i0001", "i0002", "i0003", "i0004"}:
            await hanging.wait()

    one = Pass(FakeItemClient(before=all_but_the_first), concurrency=8)
    async with one.under_way(numbered(40)) as running:
        await until(lambda: one.progress.finished == 36)
        hanging.set()
        assert (await running).asked == 40


async def test_the_rest_follows_after_five_failures_that_do_not_stop_the_target():
    failing = {f"i{n:04}": UNAVAILABLE for n in range(5)}
    one = Pass(FakeItemClient(answers=failing), concurrency=16)
    report = await one.over(numbered(40))
    assert (report.asked, report.stopped_by, report.cut_short_by) == (40, None, None)
    assert report.tally.answered == 35


async def test_fewer_than_five_items_that_all_fail_end_the_check():
    one = Pass(FakeItemClient(default=UNAVAILABLE), concurrency=16)
    report = await one.over(numbered(3))
    assert (report.asked, report.cut_short_by) == (3, None)


async def test_an_open_circuit_breaker_stops_the_target_as_an_outage():
    asker = FakeItemClient(default=UNAVAILABLE)

    async def trip_at_the_fourth(_item_id):
        asker.tripped = len(asker.asked) >= 4

    asker.before = trip_at_the_fourth
    report = await Pass(asker, concurrency=1).over(numbered(50))
    assert (report.stopped_by, report.asked) == (Cause.OUTAGE, 4)


STOPS = [
    ("a 401 that outlived its refresh", refused(401), Cause.UNAUTHORIZED),
    ("no money left", refused(402), Cause.SPENDING_LIMIT),
    ("the token endpoint refuses us", refused(401, from_token_endpoint=True), Cause.UNAUTHORIZED),
]


@pytest.mark.parametrize(("answer", "cause"), [s[1:] for s in STOPS], ids=[s[0] for s in STOPS])
async def test_a_stopped_target_gets_no_further_requests(answer, cause):
    one = Pass(FakeItemClient(answers={"i0010": answer}), concurrency=1)
    report = await one.over(numbered(50))
    assert (report.stopped_by, report.cut_short_by, report.asked) == (cause, None, 11)
    assert len(one.store.stored) == 11


LATER = timedelta(hours=1)


@pytest.mark.parametrize("status", [403, 404, 410, 422, 500])
async def test_a_retry_after_on_a_permanent_error_does_not_stop_the_target(status):
    answer = refused(status, retry_after=LATER, retryable=False)
    report = await Pass(FakeItemClient(answers={"i0010": answer}), concurrency=1).over(numbered(50))
    assert (report.stopped_by, report.cut_short_by, report.asked) == (None, None, 50)


async def test_a_retry_after_beyond_the_deadline_stops_the_target():
    one = Pass(FakeItemClient(answers={"i0010": refused(429, retry_after=LATER)}), concurrency=1)
    report = await one.over(numbered(50))
    assert (report.stopped_by, report.asked) == (Cause.RATE_LIMITED, 11)


async def test_items_with_a_transient_failure_are_asked_again_at_the_end_within_the_budget():
    failing = {f"i{number:04}": UNAVAILABLE for number in (10, 20, 30)}
    asker = FakeItemClient(answers=failing, budget=2)
    one = Pass(asker, concurrency=1)
    report = await one.over(numbered(50))
    assert (asker.asked, asker.asked_again) == ([f"i{number:04}" for number in range(50)], ["i0010", "i0020"])
    assert (report.asked, report.requests, report.retries) == (50, 52, 2)
    assert list(one.store.stored)[-3:] == ["i0010", "i0020", "i0030"]
    assert report.tally.evidence(requests=report.requests)[0].count == 3


async def test_the_second_pass_ends_after_a_few_consecutive_failures():
    failing = {f"i{number:04}": UNAVAILABLE for number in range(10, 40)}
    asker = FakeItemClient(answers=failing, budget=100)
    report = await Pass(asker, concurrency=1).over(numbered(50))
    assert (report.asked, len(asker.asked_again), report.stopped_by) == (50, 5, None)


async def test_an_answer_in_the_second_pass_replaces_the_first_outcome():
    asker = FakeItemClient(answers={"i0010": UNAVAILABLE}, budget=1)

    async def recover(_item_id):
        if len(asker.asked) == 50:
            asker.answers.clear()

    asker.before = recover
    one = Pass(asker, concurrency=1)
    report = await one.over(numbered(50))
    assert (report.asked, report.tally.answered, report.tally.evidence(requests=report.requests)) == (50, 50, ())


async def test_failures_are_evidence_even_if_the_second_pass_recovers_them():
    asker = FakeItemClient(answers=dict.fromkeys(["i0003", "i0007", "i0011"], UNAVAILABLE), budget=9)

    async def recover(_item_id):
        if asker.asked_again:
            asker.answers.clear()

    asker.before = recover
    one = Pass(asker, concurrency=1)
    report = await one.over(numbered(50))
    assert (report.asked, report.tally.answered) == (50, 50)
    (piece,) = report.tally.evidence(requests=report.requests)
    assert (piece.cause, piece.count, piece.breakdown) == (Cause.OUTAGE, 3, {"503": 3})
    assert piece.sample_ids == ("i0003", "i0007", "i0011")


async def test_an_interrupt_in_the_second_pass_keeps_earlier_outcomes():
    asker = FakeItemClient(answers={"i0010": UNAVAILABLE, "i0020": UNAVAILABLE}, budget=2)
    one = Pass(asker, concurrency=1, grace_s=0.1)

    async def interrupt(_item_id):
        if asker.asked_again:
            one.interrupt.set()
            await asyncio.Event().wait()

    asker.before = interrupt
    report = await one.over(numbered(50))
    assert (report.asked, len(one.store.stored), report.cut_short_by) == (50, 50, None)
    assert report.single_items[0].count == 2


async def test_a_stop_cancels_requests_after_the_grace_period():
    async def hang(item_id):
        if item_id in {"i0001", "i0002"}:
            await asyncio.Event().wait()

    asker = FakeItemClient(answers={"i0003": refused(401)}, before=hang)
    one = Pass(asker, concurrency=5, grace_s=0.05)
    report = await one.over(numbered(5))
    assert report.stopped_by is Cause.UNAUTHORIZED
    assert sorted(asker.cancelled) == ["i0001", "i0002"]
    assert set(one.store.stored) == {"i0000", "i0003", "i0004"}


async def test_an_interrupt_lets_requests_finish_within_the_grace_period():
    gate = asyncio.Event()
    one = Pass(FakeItemClient(gate=gate), concurrency=3)
    async with one.under_way(numbered(30)) as running:
        await until(lambda: one.asker.in_flight == 3)
        one.interrupt.set()
        await asyncio.sleep(0)
        gate.set()
        report = await running
    assert (report.cut_short_by, report.stopped_by, report.asked) == (Reason.INTERRUPTED, None, 3)
    assert len(one.store.stored) == 3
    assert one.asker.cancelled == []


async def test_an_interrupt_cancels_requests_after_the_grace_period():
    one = Pass(FakeItemClient(gate=asyncio.Event()), concurrency=9, grace_s=0.02)
    async with one.under_way(numbered(30)) as running:
        await until(lambda: one.asker.in_flight == 5)
        one.interrupt.set()
        report = await running
    assert (report.cut_short_by, report.asked) == (Reason.INTERRUPTED, 0)
    assert len(one.asker.cancelled) == 5
    assert one.store.batches == []


async def test_an_interrupt_after_the_last_request_does_not_cut_the_run_short():
    gate = asyncio.Event()
    one = Pass(FakeItemClient(gate=gate), concurrency=3)
    async with one.under_way(items("a", "b", "c")) as running:
        await until(lambda: one.asker.in_flight == 3)
        one.interrupt.set()
        await asyncio.sleep(0)
        gate.set()
        report = await running
    assert (report.cut_short_by, report.asked) == (None, 3)


async def test_an_interrupt_before_the_first_request_sends_none():
    one = Pass()
    one.interrupt.set()

    def late():
        yield items("a", "b")

    async with one.under_way(late()) as running:
        report = await running
    assert report.cut_short_by is Reason.INTERRUPTED
    assert report.asked < 2


async def test_no_request_starts_after_the_deadline():
    one = Pass(deadline_s=0.0)
    report = await one.over(numbered(30))
    assert (report.cut_short_by, report.asked, one.asker.asked) == (Reason.DEADLINE, 0, [])


async def test_an_item_without_an_answer_at_the_deadline_counts_as_not_asked():
    late = refused(code=DEADLINE_EXCEEDED)
    one = Pass(FakeItemClient(answers={"i0002": late}), concurrency=1)
    report = await one.over(numbered(3))
    assert (report.cut_short_by, report.asked) == (Reason.DEADLINE, 2)
    assert "i0002" not in one.store.stored, "the next run begins with it"
    assert report.tally.evidence(requests=report.requests) == ()


async def test_outcomes_are_stored_in_batches_one_at_a_time(monkeypatch):
    monkeypatch.setattr(item_check, "FLUSH_INTERVAL_S", 3600.0)
    count = 2 * BATCH_SIZE + 300
    one = Pass(store=Store(takes_s=0.01), concurrency=64)
    report = await one.over(numbered(count, size=1000))
    assert one.store.overlaps == 0
    assert len(one.store.stored) == report.asked == count
    sizes = [len(batch) for batch in one.store.batches]
    assert max(sizes) < 2 * BATCH_SIZE
    assert sizes[0] >= BATCH_SIZE


async def test_while_a_batch_is_written_the_next_one_is_collected_and_stored_at_once(monkeypatch):
    monkeypatch.setattr(item_check, "BATCH_SIZE", 100)
    monkeypatch.setattr(item_check, "FLUSH_INTERVAL_S", 3600.0)
    go_on, store = threading.Event(), Store()

    def slow_store(changes):
        go_on.wait(timeout=120)
        store(changes)

    one = Pass(store=slow_store, concurrency=16)
    async with one.under_way(numbered(1000, size=100)) as running:
        await until(lambda: one.progress.finished == 100 + 100 + 14)  # all but who waits for the first write
        assert one.asker.in_flight == 0
        go_on.set()
        await running
    sizes = [len(batch) for batch in store.batches]
    assert sum(sizes) == 1000
    assert min(sizes[:-1]) >= 100, "no worker that waited for a write stores a few outcomes of its own"


async def test_outcomes_are_stored_after_a_second_even_if_the_batch_is_not_full():
    held = asyncio.Event()

    async def hold_the_last(item_id):
        if item_id == "i0002":
            await asyncio.sleep(FLUSH_INTERVAL_S + 0.05)
        if item_id == "i0003":
            await held.wait()

    one = Pass(FakeItemClient(before=hold_the_last), concurrency=1)
    async with one.under_way(numbered(4)) as running:
        await until(lambda: len(one.asker.asked) == 4)
        await until(lambda: set(one.store.stored) == {"i0000", "i0001", "i0002"})
        held.set()
        await running
    assert [len(batch) for batch in one.store.batches] == [3, 1]


async def test_many_outcomes_are_stored_while_the_last_answer_is_awaited(monkeypatch):
    monkeypatch.setattr(item_check, "FLUSH_INTERVAL_S", 60.0)
    answered, count = asyncio.Event(), LAST_SIZE + 1

    async def hang_at_the_last(item_id):
        if item_id == f"i{count - 1:04}":
            await answered.wait()

    one = Pass(FakeItemClient(before=hang_at_the_last))
    async with one.under_way(numbered(count)) as running:
        await until(lambda: len(one.store.stored) == count - 1)
        answered.set()
        assert (await running).asked == count
    assert [len(batch) for batch in one.store.batches] == [count - 1, 1]


async def test_few_outcomes_are_stored_with_the_last_one(monkeypatch):
    monkeypatch.setattr(item_check, "FLUSH_INTERVAL_S", 60.0)
    one = Pass()
    await one.over(numbered(LAST_SIZE - 1))
    assert [len(batch) for batch in one.store.batches] == [LAST_SIZE - 1]


@pytest.mark.parametrize("fails_at", [1, 2])
async def test_a_failing_database_ends_the_check_with_its_error(fails_at):
    one = Pass(store=Store(fails_at=fails_at), concurrency=16)
    with pytest.raises(StoreError, match="the database is gone"):
        await one.over(numbered(3 * BATCH_SIZE, size=1000))
    assert len(one.store.batches) == fails_at
    assert one.asker.in_flight == 0


async def test_a_failure_to_store_the_last_batch_is_raised():
    with pytest.raises(StoreError):
        await Pass(store=Store(fails_at=1)).over(numbered(10))


async def test_an_unreadable_work_list_ends_the_check_with_its_error():
    def broken():
        yield items("a", "b")
        raise StoreError("the database is locked; try again")

    with pytest.raises(StoreError, match="locked"):
        await Pass().over(broken())


async def test_a_cancelled_check_cancels_requests_and_waits_for_the_writing_thread(monkeypatch):
    monkeypatch.setattr(item_check, "FLUSH_INTERVAL_S", 3600.0)
    writing, go_on = threading.Event(), threading.Event()

    def slow_store(changes):
        writing.set()
        go_on.wait(timeout=120)
        stored.extend(changes)

    stored = []
    one = Pass(FakeItemClient(), store=slow_store, concurrency=2)
    running = asyncio.create_task(one.over(numbered(2 * BATCH_SIZE, size=1000)))
    await asyncio.to_thread(writing.wait, 120)
    running.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(stored) == BATCH_SIZE
    assert one.asker.in_flight == 0


async def test_items_of_one_earlier_run_are_shuffled_and_those_of_older_runs_come_first():
    by_run = {3: ["a", "b", "c"], 0: ["d", "e"], 1: ["f", "g"]}
    due = [replace(item, asked_run_id=run) for run, ids in by_run.items() for item in items(*ids)]
    one = Pass(concurrency=1, shuffle=list.reverse)
    await one.over(due)
    assert one.asker.asked == ["e", "d", "g", "f", "c", "b", "a"]


STATES = st.sampled_from(["completed", "pending", "failed", "garbage"])


@given(st.lists(STATES, max_size=40), st.integers(1, 12))
def test_no_item_is_lost_or_stored_twice_with_any_answers(states, concurrency):
    async def once():
        one = Pass(
            FakeItemClient(answers={f"i{n}": ok(state) for n, state in enumerate(states)}), concurrency=concurrency
        )
        return one, await one.over(items(*(f"i{n}" for n in range(len(states)))))

    one, report = asyncio.run(once())
    assert sum(len(batch) for batch in one.store.batches) == len(one.store.stored) == report.asked == len(states)


async def test_a_forbidden_probe_stops_the_target_and_an_answered_one_confirms_access():
    one = Pass(FakeItemClient(default=FORBIDDEN))
    await one.check.probe(items("a")[0])
    assert one.check.must_stop
    assert (one.check.report().stopped_by, one.asker.asked) == (Cause.FORBIDDEN, ["a"])
    other = Pass(FakeItemClient(default=FORBIDDEN, answers={"a": ok()}), concurrency=1)
    await other.check.probe(items("a")[0])
    report = await other.over(numbered(30))
    assert (report.stopped_by, report.asked) == (None, 31)


async def test_after_another_failure_of_the_probe_five_403s_stop_the_target():
    one = Pass(FakeItemClient(default=FORBIDDEN, answers={"a": refused(500, retryable=False)}), concurrency=1)
    await one.check.probe(items("a")[0])
    assert not one.check.must_stop
    report = await one.over(numbered(30))
    assert (report.stopped_by, len(one.asker.asked)) == (Cause.FORBIDDEN, 6)


def known(*ids):
    """The changes of items that need no request."""
    return [
        transition(item, Outcome(item_id=item.item_id, state=ItemState.COMPLETED, at=NOW, answered=True))
        for item in items(*ids)
    ]


async def test_outcomes_without_a_request_are_stored_batch_by_batch_and_counted():
    one = Pass()
    await one.check.settle(iter([known("a", "b"), [], known("c")]), accepted=False)
    report = await one.over(items("d"))
    assert [[change.item_id for change in batch] for batch in one.store.batches] == [["a", "b"], ["c"], ["d"]]
    assert (report.asked, report.requests, report.tally.answered, one.progress.finished) == (4, 1, 4, 4)
    assert (report.tally.accepted, report.cut_short_by) == (1, None)


async def test_an_interrupt_ends_what_needs_no_request_and_the_rest_is_not_asked():
    one = Pass()

    def batches():
        yield known("a")
        one.interrupt.set()
        yield known("b")
        raise AssertionError("read on after the interrupt")

    await one.check.settle(batches(), accepted=True)
    report = await one.over(items("c"))
    assert sorted(one.store.stored) == ["a", "b"]
    assert (report.asked, report.requests, report.cut_short_by) == (2, 0, Reason.INTERRUPTED)


async def test_a_run_that_is_cancelled_waits_until_the_batch_is_stored():
    begun = threading.Event()

    def batches():
        begun.set()
        yield known("a")

    one = Pass(store=Store(takes_s=0.2))
    settling = asyncio.create_task(one.check.settle(batches(), accepted=True))
    await until(begun.is_set)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    assert list(one.store.stored) == ["a"]


async def test_outcomes_within_a_second_are_stored_with_one_time_that_is_never_late():
    stored = []
    buffer = OutcomeBuffer(lambda: stored.extend, EvidenceCollector(missing_after=timedelta(0)))
    after_s = [0, 0.4, 0.999, 1, 1.5, 0.9, 7]
    for item, after in zip(items(*"abcdefg"), after_s, strict=True):
        at = NOW + timedelta(seconds=after)
        buffer.add(item, Outcome(item_id=item.item_id, state=ItemState.PENDING, at=at, answered=True))
    await buffer.flush()
    await buffer.join()
    assert [(change.at - NOW).total_seconds() for change in stored] == [0, 0, 0, 1, 1, 0.9, 7]


async def test_what_is_recorded_is_prepared_with_the_report_as_of_these_outcomes():
    given = []

    def prepare(found):
        as_of = found.asked
        return lambda changes: given.append((as_of, [change.item_id for change in changes]))

    one = Pass(record_with=prepare)
    await one.over(items("a", "b", "c"))
    assert given == [(3, ["a", "b", "c"])]
    assert one.store.batches == []


async def test_a_first_answer_lets_others_ask_about_the_rest():
    one = Pass()
    await one.check.run(iter([items("a")]), more_follow=True)
    assert one.check.may_be_shared
    assert one.check.stopped_by is None


async def test_refusals_alone_are_held_back_for_what_follows():
    one = Pass(FakeItemClient(default=refused(400, code="no")))
    await one.check.run(iter([items("a", "b")]), more_follow=True)
    assert not one.check.may_be_shared
    assert one.store.stored == {}
    one.asker.default = ok()
    await one.over(items("c"))
    assert {item_id: dict(change.changed)["state"] for item_id, change in one.store.stored.items()} == {
        "a": ItemState.INVALID, "b": ItemState.INVALID, "c": ItemState.COMPLETED,
    }  # fmt: skip
    assert one.check.may_be_shared


@pytest.mark.parametrize(
    ("answer", "cause"), [(refused(401), Cause.UNAUTHORIZED), (refused(500), None)], ids=["refused", "failed"]
)
async def test_items_without_an_answer_are_not_shared(answer, cause):
    one = Pass(FakeItemClient(default=answer))
    await one.check.run(iter([items("a")]), more_follow=True)
    assert not one.check.may_be_shared
    assert one.check.stopped_by is cause


async def test_the_second_pass_comes_after_what_follows():
    asker = FakeItemClient(answers={"a": UNAVAILABLE}, budget=1)
    one = Pass(asker)
    await one.check.run(iter([items("a", "b")]), more_follow=True)
    assert (one.check.may_be_shared, asker.asked_again, list(one.store.stored)) == (True, [], ["b"])
    await one.over(iter(()))
    assert (asker.asked_again, list(one.store.stored)) == (["a"], ["b", "a"])
