import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from client import virtual_time

from monitor.client.limits import Breaker, ConcurrencyLimit
from monitor.client.rate.limiter import RateLimiter
from monitor.client.throttle import Throttle
from monitor.model import LearnedLimits
from monitor.model.http import BREAKER_OPEN, DEADLINE_EXCEEDED, ApiError

START = datetime(2026, 3, 1, tzinfo=UTC)
DOWN = ApiError(status=503)
LIMITED = ApiError(status=429, retry_after=timedelta(seconds=30), code="slow_down")


def made(**parts):
    """A throttle on the time of the event loop."""
    loop = asyncio.get_running_loop()
    return Throttle(monotonic=loop.time, utcnow=lambda: START + timedelta(seconds=loop.time()), **parts)


def now_s():
    return asyncio.get_running_loop().time()


class Caller:
    """Acquires the throttle, keeps it for a while and releases it; keeps the time of entry."""

    def __init__(self, throttle, *, takes_s=1.0, answer=None, deadline_s=1000.0):
        self.throttle, self.takes_s, self.answer, self.deadline_s = throttle, takes_s, answer, deadline_s
        self.entered_s = None

    async def __call__(self):
        if not self.throttle.try_acquire(now_s()):
            refused = await self.throttle.acquire(self.deadline_s)
            if refused is not None:
                return refused
        self.entered_s = now_s()
        await asyncio.sleep(self.takes_s)
        self.throttle.release(self.answer, {}, started_s=self.entered_s)
        return None


async def gathered(callers):
    return await asyncio.gather(*(caller() for caller in callers))


def test_requests_in_flight_stay_within_the_limit_and_start_in_order():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(2))
        callers = [Caller(throttle) for _ in range(6)]
        assert await gathered(callers) == [None] * 6
        assert [caller.entered_s for caller in callers] == [0, 0, 1, 1, 2, 2]
        assert throttle.in_flight == 0

    virtual_time.run(main())


def test_a_hint_blocks_all_calls_and_then_admits_one_probe():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(8))
        assert await Caller(throttle, takes_s=0.0, answer=LIMITED)() is None
        callers = [Caller(throttle, takes_s=0.5) for _ in range(4)]
        assert await gathered(callers) == [None] * 4
        first, *others = sorted(caller.entered_s for caller in callers)
        assert first == 30
        assert min(others) >= 30.5

    virtual_time.run(main())


def test_a_hint_beyond_the_deadline_ends_a_call_at_once_with_the_servers_error():
    async def main():
        throttle = made()
        await Caller(throttle, takes_s=0.0, answer=LIMITED)()
        refusals = await gathered([Caller(throttle, deadline_s=20.0) for _ in range(3)])
        assert now_s() == 0
        assert {(each.status, each.code, each.from_backoff) for each in refusals} == {(429, "slow_down", True)}
        assert refusals[0].retry_after == timedelta(seconds=30)

    virtual_time.run(main())


def test_an_opening_breaker_ends_all_waiting_calls():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(1), breaker=Breaker(down=True))
        throttle.breaker.start_run()
        refusals = await gathered([Caller(throttle, takes_s=2.0, answer=DOWN), *[Caller(throttle) for _ in range(3)]])
        assert [each and each.code for each in refusals] == [None, BREAKER_OPEN, BREAKER_OPEN, BREAKER_OPEN]
        assert now_s() == 2
        assert not throttle.try_acquire(now_s())
        assert (await throttle.acquire(1000.0)).code == BREAKER_OPEN

    virtual_time.run(main())


def test_after_an_outage_one_probe_is_sent_and_the_rest_when_it_is_answered():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(8), breaker=Breaker(down=True))
        throttle.breaker.start_run()
        callers = [Caller(throttle) for _ in range(3)]
        assert await gathered(callers) == [None] * 3
        assert [caller.entered_s for caller in callers] == [0, 1, 1]

    virtual_time.run(main())


def test_a_waiting_call_ends_at_its_deadline():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(1))
        slow, late, patient = Caller(throttle, takes_s=10), Caller(throttle, deadline_s=4.0), Caller(throttle)
        answers = await asyncio.gather(slow(), late(), patient())
        assert [each and each.code for each in answers] == [None, DEADLINE_EXCEEDED, None]
        assert patient.entered_s == 10

    virtual_time.run(main())


def test_a_call_does_not_wait_for_the_rate_past_its_deadline():
    async def main():
        throttle = made(rate_limiter=RateLimiter(ceiling_per_s=0.1, share=1.0))
        await Caller(throttle)()
        started_s = now_s()
        refusal = await Caller(throttle, deadline_s=started_s + 3)()
        assert (refusal.code, now_s()) == (DEADLINE_EXCEEDED, started_s)

    virtual_time.run(main())


def test_a_configured_rate_is_respected():
    async def main():
        throttle = made(rate_limiter=RateLimiter(ceiling_per_s=10.0, share=1.0), concurrency=ConcurrencyLimit(64))
        callers = [Caller(throttle, takes_s=0.3) for _ in range(50)]
        await gathered(callers)
        entered = sorted(caller.entered_s for caller in callers)
        assert 4.0 <= entered[-1] <= 6.0
        assert max(sum(start <= each < start + 1 for each in entered) for start in entered) <= 12

    virtual_time.run(main())


def test_a_cancelled_call_blocks_no_other():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(1))
        tasks = [asyncio.create_task(Caller(throttle)()) for _ in range(5)]
        await asyncio.sleep(0.5)
        for task in tasks[1:3]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(each) for each in done] == [type(None), *[asyncio.CancelledError] * 2, type(None), type(None)]
        assert (now_s(), throttle.in_flight) == (3, 0)

    virtual_time.run(main())


def test_an_inconclusive_attempt_frees_its_slot_and_teaches_nothing():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(1))
        assert throttle.try_acquire(now_s())
        assert not throttle.try_acquire(now_s())
        throttle.release_unused()
        assert throttle.try_acquire(now_s())
        assert throttle.learned() == LearnedLimits(at=START)

    virtual_time.run(main())


def test_learned_limits_are_used_by_another_process():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(8))
        await Caller(throttle, takes_s=0.0, answer=LIMITED)()
        learned = throttle.learned()
        assert (learned.not_before, learned.status, learned.code) == (START + timedelta(seconds=30), 429, "slow_down")
        assert (learned.concurrency, learned.down) == (4, False)
        heir = made(concurrency=ConcurrencyLimit(8, learned.concurrency))
        heir.restore_backoff(learned)
        refusal = await Caller(heir, deadline_s=5.0)()
        assert (refusal.from_backoff, refusal.status) == (True, 429)
        caller = Caller(heir)
        assert await caller() is None
        assert caller.entered_s == 30

    virtual_time.run(main())


@pytest.mark.parametrize("not_before", [None, START - timedelta(seconds=1), START])
def test_an_expired_hint_delays_no_request(not_before):
    async def main():
        throttle = made()
        throttle.restore_backoff(LearnedLimits(at=START, not_before=not_before, status=429))
        assert throttle.try_acquire(now_s())

    virtual_time.run(main())


@pytest.mark.parametrize(("ahead", "entered_s"), [(timedelta(hours=1), 3600), (timedelta(hours=1, seconds=1), 0)])
def test_an_impossible_stored_hint_delays_no_request(ahead, entered_s):
    async def main():
        throttle = made()
        throttle.restore_backoff(LearnedLimits(at=START, not_before=START + ahead, status=429))
        caller = Caller(throttle, deadline_s=1e6)
        assert await caller() is None
        assert caller.entered_s == entered_s

    virtual_time.run(main())


def test_an_outage_and_an_open_probe_are_stored_for_the_next_run():
    async def main():
        throttle = made(breaker=Breaker(down=True))
        assert throttle.learned().down
        throttle.breaker.start_run()
        assert throttle.learned().down
        await Caller(throttle)()
        assert not throttle.learned().down

    virtual_time.run(main())


def test_repeated_requests_do_not_count_for_the_breaker():
    async def main():
        throttle = made()
        for _ in range(30):
            assert throttle.try_acquire(now_s())
            throttle.release(DOWN, {}, started_s=now_s(), is_sample=False)
        assert not throttle.breaker.open

    virtual_time.run(main())


def test_a_part_limits_rate_and_requests_in_flight_and_its_change_wakes_waiting_calls():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(8))
        throttle.set_part(0.25)
        callers = [Caller(throttle, takes_s=10) for _ in range(8)]
        asyncio.get_running_loop().call_later(3, throttle.set_part, 1.0)
        await gathered(callers)
        assert [caller.entered_s for caller in callers] == [0, 0, 3, 3, 3, 3, 3, 3]
        throttle.set_part(1.0, most_in_flight=3)
        assert throttle.concurrency.ceiling == 3

    virtual_time.run(main())


def test_the_breaker_of_another_process_ends_all_waiting_calls():
    async def main():
        throttle = made(concurrency=ConcurrencyLimit(1))
        waiting = [asyncio.create_task(Caller(throttle, takes_s=5)()) for _ in range(3)]
        asyncio.get_running_loop().call_later(1, throttle.trip)
        found = await asyncio.gather(*waiting)
        assert [each and each.code for each in found] == [None, BREAKER_OPEN, BREAKER_OPEN]

    virtual_time.run(main())


STOPS = {
    "a hint": ([LIMITED], 1),
    "a later hint": ([LIMITED, ApiError(status=503, retry_after=timedelta(seconds=90))], 2),
    "an earlier hint": ([LIMITED, ApiError(status=429, retry_after=timedelta(seconds=3))], 1),
    "an opened breaker": ([DOWN] * 7, 1),
    "a 429 without a hint": ([ApiError(status=429)] * 3, 0),
    "good answers": ([None] * 3, 0),
}


@pytest.mark.parametrize(("answers", "times"), STOPS.values(), ids=STOPS)
def test_what_must_stop_other_processes_is_told_at_once(answers, times):
    async def main():
        told = []
        throttle = made()
        throttle.on_stop = lambda: told.append(now_s())
        for answer in answers:
            throttle.in_flight += 1
            throttle.release(answer, {}, started_s=0.0)
        assert len(told) == times

    virtual_time.run(main())
