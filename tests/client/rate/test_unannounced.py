import random
from datetime import timedelta

import pytest

from monitor.client.limits import Breaker
from monitor.client.rate.headers import RateLimitHeaders
from monitor.client.rate.limiter import RateLimiter
from monitor.client.rate.unannounced import UnannouncedLimit, Verdict
from monitor.client.throttle import Throttle
from monitor.model.http import ApiError, NetworkFault

REFUSED = ApiError(status=503)
OTHERS = {
    "a hint": ApiError(status=503, retry_after=timedelta(seconds=1)),
    "a 500": ApiError(status=500),
    "a 429": ApiError(status=429),
    "no answer": ApiError(status=None, network=NetworkFault.TIMEOUT),
}


class Attempts:
    """Judges attempts one after the other, 10 ms each."""

    def __init__(self, **kwargs):
        self.limit, self.now_s = UnannouncedLimit(**kwargs), 0.0

    def __call__(self, failure=None, *, takes_s=0.01, times=1):
        verdicts = []
        for _ in range(times):
            started_s, self.now_s = self.now_s, self.now_s + takes_s
            verdicts.append(self.limit.judge(failure, started_s=started_s, now_s=self.now_s))
        return verdicts


def test_quick_503s_between_good_answers_are_refusals():
    attempt = Attempts()
    attempt()
    assert attempt(REFUSED, times=4) == [Verdict.OTHER, Verdict.OTHER, Verdict.REFUSAL, Verdict.FEW_REFUSALS]


def test_503s_without_a_good_answer_are_an_outage():
    assert Attempts()(REFUSED, times=20) == [Verdict.OTHER] * 20
    assert Attempts(known=True)(REFUSED, times=20) == [Verdict.OTHER] * 20


@pytest.mark.parametrize("failure", OTHERS.values(), ids=OTHERS)
def test_other_failures_between_good_answers_are_no_refusals(failure):
    attempt = Attempts()
    attempt()
    assert attempt(failure, times=20) == [Verdict.OTHER] * 20


@pytest.mark.parametrize(("good_s", "refusal_s"), [(0.01, 1.0), (3.0, 0.01)], ids=["slow 503s", "slow answers"])
def test_a_service_that_takes_its_time_is_overloaded(good_s, refusal_s):
    attempt = Attempts()
    attempt(takes_s=good_s)
    assert attempt(REFUSED, takes_s=refusal_s, times=9) == [Verdict.OTHER] * 9


def test_a_few_503s_among_many_good_answers_are_no_limit():
    attempt = Attempts()
    for _ in range(20):
        attempt(times=4)
        assert attempt(REFUSED) == [Verdict.OTHER]


def test_503s_that_go_on_after_slow_downs_were_an_outage():
    attempt = Attempts()
    attempt(times=10)
    assert attempt(REFUSED, times=4) == [Verdict.OTHER] * 4
    assert attempt(REFUSED) == [Verdict.REFUSAL]
    for _ in range(2):
        assert attempt(REFUSED, times=4) == [Verdict.FEW_REFUSALS] * 3 + [Verdict.REFUSAL]
    assert attempt(REFUSED, times=6) == [Verdict.FEW_REFUSALS] * 3 + [Verdict.OUTAGE] + [Verdict.OTHER] * 2


def test_503s_that_stay_one_in_ten_at_any_rate_are_no_limit():
    attempt = Attempts()
    attempt(times=5)
    attempt(REFUSED, times=5)
    verdicts = [attempt(REFUSED)[0] for _ in range(12) if attempt(times=9)]
    assert verdicts[:11] == [Verdict.FEW_REFUSALS] * 11
    assert verdicts[11] is Verdict.OUTAGE


def test_a_limit_that_was_met_long_ago_is_no_excuse_for_a_service_that_begins_to_fail():
    attempt = Attempts(known=True)
    attempt(times=1500)
    verdicts = {attempt(REFUSED)[0] for _ in range(200) if attempt(times=5)}
    assert Verdict.OUTAGE in verdicts


def test_what_was_sent_before_the_slow_down_does_not_decide():
    attempt = Attempts()
    attempt(times=2)
    attempt(REFUSED, times=3)
    judged = [attempt.limit.judge(REFUSED, started_s=0.0, now_s=0.02) for _ in range(30)]
    assert judged == [Verdict.FEW_REFUSALS] * 30, "none is an outage"


def test_a_limit_that_holds_stays_known_and_a_new_run_begins_afresh():
    attempt = Attempts()
    attempt()
    attempt(REFUSED, times=3)
    for _ in range(10):
        attempt(times=9)
        assert attempt(REFUSED) == [Verdict.FEW_REFUSALS]
    attempt.limit.start_run()
    assert attempt(REFUSED) == [Verdict.OTHER]
    attempt()
    assert attempt(REFUSED) == [Verdict.REFUSAL]


def test_a_limit_that_an_earlier_run_met_is_known_from_the_first_good_answer_on():
    attempt = Attempts(known=True)
    attempt()
    assert attempt(REFUSED) == [Verdict.REFUSAL]


def test_a_stated_limit_needs_no_learning_from_503s():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.observe(RateLimitHeaders(limit=60, remaining=30, window_s=60), sent_s=0.0, in_flight=0)
    before = limiter.per_s
    limiter.refused_once(1.0, started_s=0.5)
    assert limiter.per_s == before


class Server:
    """nginx's `limit_req` without a burst: one request per interval, the others get a 503. In virtual time."""

    def __init__(self, per_s):
        self.gap_s, self.next_s = 1 / per_s, 0.0

    def answer(self, now_s):
        if now_s < self.next_s:
            return REFUSED
        self.next_s = now_s + self.gap_s
        return None


class LeakyBucket:
    """nginx's `limit_req` with a burst and `nodelay`."""

    def __init__(self, per_s, burst):
        self.per_s, self.burst, self.excess, self.last_s = per_s, burst, 0.0, 0.0

    def answer(self, now_s):
        excess = max(0.0, self.excess - self.per_s * (now_s - self.last_s))
        if excess > self.burst:
            return REFUSED
        self.excess, self.last_s = excess + 1, now_s
        return None


class AtRandom:
    """A service that fails a share of its requests at any rate."""

    def __init__(self, share):
        self.share, self.random = share, random.Random(0)  # noqa: S311  # a simulation

    def answer(self, now_s):
        return REFUSED if self.random.random() < self.share else None


def serve(server, *, seconds, learned=None, in_flight=16, latency_s=0.02):
    """What a throttle gets through in some seconds of virtual time; and the throttle."""
    clock = [0.0]
    throttle = Throttle(
        rate_limiter=RateLimiter(ceiling_per_s=None, share=1.0, learned_per_s=learned),
        unannounced=UnannouncedLimit(known=learned is not None),
        monotonic=lambda: clock[0],
    )
    ends, good, late = [], 0, 0
    while clock[0] < seconds and not throttle.breaker.open:
        while len(ends) < (in_flight if good else 5) and throttle.try_acquire(clock[0]):
            ends.append((clock[0] + latency_s, clock[0], server.answer(clock[0] + latency_s / 2)))
        clock[0] += 0.001
        for end in [each for each in ends if each[0] <= clock[0]]:
            ends.remove(end)
            good += end[2] is None
            late += end[2] is None and clock[0] > seconds / 2
            throttle.release(end[2], {}, started_s=end[1])
    return late / (seconds / 2), throttle


@pytest.mark.parametrize("per_s", [5, 20, 100])
def test_a_limit_that_answers_503_is_used_nearly_whole_and_is_no_outage(per_s):
    rate, throttle = serve(Server(per_s), seconds=240)
    assert not throttle.breaker.open
    assert rate >= 0.95 * per_s, rate
    again, throttle = serve(Server(per_s), seconds=120, learned=throttle.rate_limiter.per_s)
    assert not throttle.breaker.open
    assert again >= 0.9 * per_s, again


@pytest.mark.parametrize(("per_s", "burst"), [(1, 5), (1, 100), (2, 100), (20, 20), (20, 100), (100, 400)])
def test_a_limit_with_a_burst_is_no_outage(per_s, burst):
    rate, throttle = serve(LeakyBucket(per_s, burst), seconds=90, in_flight=64)
    assert not throttle.breaker.open
    assert rate >= 0.25 * per_s, "after a large burst it is found again only slowly"


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3])
def test_a_service_that_fails_at_random_is_not_starved(share):
    rate, throttle = serve(AtRandom(share), seconds=60, in_flight=64, latency_s=0.002)
    assert not throttle.breaker.open
    assert throttle.rate_limiter.per_s is None, "it has no limit"
    assert rate >= 100, rate


def test_an_outage_ends_after_five_requests_also_where_a_limit_is_known():
    for known in (False, True):
        throttle = Throttle(breaker=Breaker(), unannounced=UnannouncedLimit(known=known))
        for _ in range(5):
            assert throttle.try_acquire(0.0)
            throttle.release(REFUSED, {}, started_s=0.0)
        assert throttle.breaker.open


def test_an_outage_in_the_middle_of_a_run_opens_the_breaker_after_all():
    clock = [0.0]
    throttle = Throttle(monotonic=lambda: clock[0])
    for failure in [None] * 30 + [REFUSED] * 30:
        if throttle.breaker.open:
            break
        clock[0] += 0.01
        throttle.in_flight += 1
        throttle.release(failure, {}, started_s=clock[0] - 0.01)
    assert throttle.breaker.open
    assert throttle.rate_limiter.per_s is None, "what the 503s taught is forgotten"


def test_what_429s_taught_stays_when_503s_were_no_refusals():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    for by_503 in (True, False):
        limiter.wait_s(0.0, 0)
        limiter.accepted(1.0)
        limiter.refused(1.0, by_503=by_503)
    limiter.wait_s(3.0, 0)
    limiter.accepted(3.5)
    learned = limiter.per_s
    limiter.forget_503s(3.5)
    assert limiter.per_s == learned is not None


def test_refusals_before_other_processes_slow_down_do_not_decide():
    attempt = Attempts()
    attempt.limit.wait_for_others(1.0)
    attempt()
    assert attempt(REFUSED, times=3)[-1] is Verdict.REFUSAL
    assert Verdict.OUTAGE not in attempt(REFUSED, times=80)
    verdicts = set()
    for number in range(7):
        attempt.now_s += 1.0
        assert Verdict.OUTAGE not in verdicts or number > 4, "several need more slow-downs"
        verdicts |= {*attempt(REFUSED, times=6)}
    assert Verdict.OUTAGE in verdicts
