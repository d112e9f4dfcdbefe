"""The loop of a wait, in virtual time: it asks in growing intervals, obeys limits, and always ends."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from client import virtual_time
from support.samples import NOW
from waits.test_rules import outcome, unknown

from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import BREAKER_OPEN, DEADLINE_EXCEEDED, ApiError
from monitor.model.items import TrackedItem
from monitor.waits.rules import Tally, WaitResult, WatchedItem
from monitor.waits.wait import Limits, Wait, WaitSpec

MINUTE_S = 60.0


@dataclass
class Api:
    """An API whose items are done after so many seconds; `says` overrides what it says of an item, or raises."""

    done_after: dict = field(default_factory=dict)
    says: dict = field(default_factory=dict)
    batch_size: int = 1
    latency_s: float = 0.1
    down_until_s: float = 0.0
    open: bool = False
    half_open: bool = False
    asked: list = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    resumed: list = field(default_factory=list)
    requests: int = 0
    failed: int = 0

    def alike(self, one, other):
        return one.params == other.params

    async def ask(self, items):
        if self.open:
            return [self._of(item, unknown(Cause.OUTAGE, code=BREAKER_OPEN)) for item in items]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.requests += 1
        self.asked.append((now_s(), [item.item_id for item in items]))
        await asyncio.sleep(self.latency_s)
        self.in_flight -= 1
        return [self._answer(item) for item in items]

    def _answer(self, item):
        if now_s() < self.down_until_s:
            self.failed += 1
            self.open = self.open or self.half_open or self.failed >= 5
            return self._of(item, unknown(Cause.OUTAGE, status=503))
        self.failed, self.half_open = 0, False
        said = self.says.get(item.item_id)
        if callable(said):
            said = said()
        if said is not None:
            return said if isinstance(said, str) else self._of(item, said)
        done = now_s() >= self.done_after.get(item.item_id, 0)
        state = ItemState.COMPLETED if done else ItemState.PENDING
        return self._of(item, outcome(state, stage="DONE" if done else "EMBEDDING"))

    def _of(self, item, said):
        return Outcome(
            **{name: getattr(said, name) for name in said.__struct_fields__} | {"item_id": item.item_id, "at": at()}
        )

    def resume(self):
        self.resumed.append(now_s())
        self.open, self.half_open, self.failed = False, True, 0

    def looks_at(self, item_id):
        return [round(moment, 1) for moment, ids in self.asked if item_id in ids]


def now_s():
    return asyncio.get_running_loop().time()


def at():
    return NOW + timedelta(seconds=now_s())


def wait_for(api, *item_ids, timeout_s=10 * MINUTE_S, workers=4, rate_per_s=None, interrupt_after_s=None, **spec):
    """The report of a wait, and when it ended."""

    async def main():
        interrupt, loop = asyncio.Event(), asyncio.get_running_loop()
        items = [
            each if isinstance(each, WatchedItem) else WatchedItem(item=TrackedItem(item_id=each, first_seen_at=NOW))
            for each in item_ids
        ]
        wait = Wait(
            WaitSpec(
                target="gloo",
                items=items,
                started_s=loop.time(),
                deadline_s=loop.time() + timeout_s,
                missing_after=spec.pop("missing_after", timedelta(minutes=15)),
                valid_id=lambda item_id: item_id != "malformed",
                **spec,
            ),
            api,
            Limits(workers=workers, rate_per_s=lambda: rate_per_s, breaker_is_open=lambda: api.open, resume=api.resume),
            interrupt=interrupt,
            utcnow=at,
            rand=lambda: 0.5,
            monotonic=loop.time,
        )
        if interrupt_after_s is not None:
            loop.call_later(interrupt_after_s, interrupt.set)
        report = await wait.run()
        return report, loop.time()

    return virtual_time.run(main())


def test_it_ends_at_once_when_all_are_settled():
    api = Api({"a": 0, "b": 20})
    report, ended_s = wait_for(api, "a", "b")
    assert (report.result, report.counts) == (WaitResult.COMPLETED, Tally(asked=2, completed=2))
    assert 20 <= ended_s < 28
    assert api.looks_at("a") == [0]
    assert api.looks_at("b") == [0, 1.1, 2.7, 5.1, 8.5, 13.7, 21.4]
    assert (report.duration_s, report.requests) == (pytest.approx(ended_s, abs=0.01), 8)


def test_a_status_that_stays_in_progress_ends_with_the_budget():
    """openai-python#3097: such a poll never returned."""
    api = Api({"a": 1e9})
    report, ended_s = wait_for(api, "a", timeout_s=3600)
    assert (report.result, report.counts.pending, report.cause) == (WaitResult.TIMED_OUT, 1, None)
    assert ended_s == pytest.approx(3598, abs=1)
    assert len(api.asked) < 3600 / 15 + 10
    assert report.items[0].stage == "EMBEDDING"


def test_what_completes_in_the_last_interval_is_noticed():
    report, ended_s = wait_for(Api({"a": 50}), "a", timeout_s=53)
    assert (report.result, ended_s) == (WaitResult.COMPLETED, pytest.approx(51.1, abs=0.1))


def test_ten_thousand_items_have_a_few_workers():
    api = Api({f"item-{number}": 3 for number in range(10_000)}, latency_s=0.005)
    report, ended_s = wait_for(api, *api.done_after, workers=32)
    assert report.counts == Tally(asked=10_000, completed=10_000)
    assert api.most_in_flight == 32
    assert ended_s < 6
    looks = Counter(item_id for _, ids in api.asked for item_id in ids)
    assert max(looks.values()) - min(looks.values()) <= 2  # in turn: none waits while others are asked again


def test_intervals_respect_the_rate():
    api = Api({f"item-{number}": 1e9 for number in range(100)}, latency_s=0.001)
    wait_for(api, *api.done_after, rate_per_s=2.0, timeout_s=600, workers=1)
    # one look at all of them takes fifty seconds
    assert len(api.asked) <= 100 * (600 / 45 + 2)


def test_batches_hold_items_with_the_same_parameters():
    def item(item_id, store):
        return WatchedItem(item=TrackedItem(item_id=item_id, first_seen_at=NOW, params={"store": store}))

    api = Api(batch_size=3)
    report, _ = wait_for(api, *(item(f"x{n}", "x") for n in range(4)), *(item(f"y{n}", "y") for n in range(2)))
    assert [ids for _, ids in api.asked] == [["x0", "x1", "x2"], ["x3"], ["y0", "y1"]]
    assert report.result is WaitResult.COMPLETED


def test_problems_are_settled_and_named():
    api = Api(says={"bad": outcome(ItemState.FAILED, stage="FAILED", failure_reason="empty"), "good": None})
    report, _ = wait_for(api, "good", "bad", "malformed")
    assert (report.result, report.counts) == (WaitResult.FAILED, Tally(asked=3, completed=1, failed=1, invalid=1))
    assert [(each.item_id, each.failure_reason) for each in report.unfinished] == [
        ("bad", "empty"),
        ("malformed", None),
    ]
    assert [ids for _, ids in api.asked] == [["good"], ["bad"]]


def test_a_404_is_the_last_word_only_after_missing_after():
    missing = outcome(ItemState.NOT_FOUND, error=ApiError(status=404))
    report, ended_s = wait_for(Api(says={"a": missing}), "a", missing_after=timedelta(minutes=2))
    assert (report.result, report.counts.missing) == (WaitResult.FAILED, 1)
    assert 120 <= ended_s < 140
    report, _ = wait_for(Api(says={"a": missing}), "a", timeout_s=60)
    assert (report.result, report.counts.pending, report.items[0].error.status) == (WaitResult.TIMED_OUT, 1, 404)


def test_an_outage_is_waited_out_with_few_requests():
    api = Api({f"item-{number}": 0 for number in range(1000)}, down_until_s=120)
    report, ended_s = wait_for(api, *api.done_after)
    assert report.result is WaitResult.COMPLETED
    assert 120 <= ended_s < 190
    during = [moment for moment, _ in api.asked if moment < 120]
    assert len(during) <= 4 + 5 + 4 * len(api.resumed)
    assert 3 < len(api.resumed) < 12


def test_an_outage_until_the_end_says_so():
    report, ended_s = wait_for(Api(down_until_s=1e9), "a", "b", timeout_s=30)
    assert (report.result, report.cause, report.counts.unknown) == (WaitResult.TIMED_OUT, Cause.OUTAGE, 2)
    assert ended_s <= 30
    assert {each.error.status for each in report.items} == {503}


STOPPED = {
    "a rejected key": (unknown(Cause.UNAUTHORIZED, status=401), Cause.UNAUTHORIZED),
    "a spending limit": (unknown(Cause.SPENDING_LIMIT, status=402), Cause.SPENDING_LIMIT),
    "a hint beyond the end": (
        unknown(Cause.RATE_LIMITED, status=429, retry_after=timedelta(hours=1)),
        Cause.RATE_LIMITED,
    ),
    "access denied to all": (unknown(Cause.FORBIDDEN, status=403), Cause.FORBIDDEN),
}


@pytest.mark.parametrize(("said", "cause"), STOPPED.values(), ids=STOPPED)
def test_it_stops_where_waiting_does_not_help(said, cause):
    ids = [f"item-{number}" for number in range(100)]
    api = Api(says=dict.fromkeys(ids, said))
    report, ended_s = wait_for(api, *ids)
    assert (report.result, report.cause, report.counts.unknown) == (WaitResult.STOPPED, cause, 100)
    assert ended_s < 2
    assert len(api.asked) <= 12


def test_a_403_on_one_item_ends_only_this_one():
    api = Api({"good": 10}, says={"denied": unknown(Cause.FORBIDDEN, status=403)})
    report, ended_s = wait_for(api, "denied", "good")
    assert (report.result, report.cause) == (WaitResult.STOPPED, Cause.FORBIDDEN)
    assert report.counts == Tally(asked=2, completed=1, unknown=1)
    assert ended_s >= 10
    assert api.looks_at("denied") == [0]


def test_all_ids_rejected_alike_is_no_news_about_any():
    rejected = outcome(ItemState.INVALID, error=ApiError(status=400))
    report, _ = wait_for(Api(says={"a": rejected, "b": rejected}), "a", "b")
    assert (report.result, report.cause) == (WaitResult.STOPPED, Cause.BAD_REQUEST)
    assert report.counts == Tally(asked=2, unknown=2)


def test_a_failure_of_one_item_does_not_delay_the_others():
    api = Api(says={"slow": unknown(Cause.OUTAGE, status=500)})
    report, ended_s = wait_for(api, "slow", "good", timeout_s=20)
    assert (api.looks_at("good"), report.result) == ([0], WaitResult.TIMED_OUT)
    assert report.items[0].cause is Cause.OUTAGE
    assert ended_s <= 20


def test_a_signal_ends_it_at_once():
    report, ended_s = wait_for(Api({"a": 1e9}, latency_s=5), "a", interrupt_after_s=7)
    assert (report.result, report.counts.pending) == (WaitResult.INTERRUPTED, 1)
    assert ended_s == pytest.approx(7, abs=0.1)


def test_a_request_that_never_ends_does_not_outlast_the_budget():
    report, ended_s = wait_for(Api(latency_s=1e6), "a", timeout_s=30)
    assert (report.result, report.counts.unknown) == (WaitResult.TIMED_OUT, 1)
    assert ended_s == pytest.approx(31.5, abs=0.1)


def test_an_api_that_hangs_through_the_whole_budget_is_an_outage():
    report, _ = wait_for(Api(says={"a": "no answer"}), "a", timeout_s=0.05)
    assert (report.result, report.cause) == (WaitResult.TIMED_OUT, Cause.OUTAGE)


def test_what_the_deadline_prevented_is_no_outcome():
    report, ended_s = wait_for(Api(says={"a": DEADLINE_EXCEEDED}, latency_s=3), "a", timeout_s=4)
    assert (report.result, report.items[0].looks, ended_s) == (WaitResult.TIMED_OUT, 0, pytest.approx(3, abs=0.1))


def test_one_look_asks_once():
    api = Api({"a": 1e9})
    report, ended_s = wait_for(api, "a", "b", once=True)
    assert ended_s == pytest.approx(0.1, abs=0.05)
    assert [each.state for each in report.items] == [ItemState.PENDING, ItemState.COMPLETED]


def test_a_defect_ends_it_with_its_error():
    def defect():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        wait_for(Api(says={"a": defect}), "a")


def test_a_budget_that_is_over_asks_nothing():
    api = Api()
    report, _ = wait_for(api, "a", timeout_s=0)
    assert (report.result, api.asked) == (WaitResult.TIMED_OUT, [])
