"""Several throttles that divide a limit which answers 503 without a hint: one judges for all. In virtual time."""

import heapq
import itertools
import math
import random

import pytest
from client.limited import Bucket, Latency

from monitor.client.limits import ConcurrencyLimit
from monitor.client.rate.limiter import RateLimiter
from monitor.client.rate.probe import CubicProbe, RateCut, RequestCounts
from monitor.client.rate.unannounced import UnannouncedLimit, Verdict
from monitor.client.throttle import Throttle
from monitor.model.http import ApiError

REFUSED = ApiError(status=503)
EXCHANGE_S = 0.5


class Process:
    """Always has 256 requests, from its first good answer on."""

    def __init__(self, fleet, number):
        self.fleet, self.number, self.wake_s = fleet, number, math.inf
        self.throttle = Throttle(monotonic=lambda: fleet.now_s, concurrency=ConcurrencyLimit(256))
        self.dice, self.latency = random.Random(fleet.seed * 100 + number), Latency(round_s=0.02)  # noqa: S311  # a simulation
        self.told, self.heard, self.is_answered = (None, None, False), {}, False

    def start(self):
        now_s, throttle = self.fleet.now_s, self.throttle
        if now_s >= self.wake_s - 1e-12:
            self.wake_s = math.inf
        while throttle.in_flight < (256 if self.is_answered else 1) and not throttle.breaker.open:
            wait_s = throttle._wait_s(now_s)
            if wait_s > 0:
                if now_s + wait_s < self.wake_s:
                    self.wake_s = now_s + wait_s
                    self.fleet.at(self.wake_s, self.start)
                return
            throttle.in_flight += 1
            self.fleet.at(now_s + self.latency.one_way_s(self.dice), lambda: self.arrive(now_s))

    def arrive(self, started_s):
        accepted = self.fleet.server.take(self.fleet.now_s)
        self.fleet.answers.append((self.fleet.now_s, accepted))
        self.fleet.at(self.fleet.now_s + self.latency.one_way_s(self.dice), lambda: self.reply(accepted, started_s))

    def reply(self, accepted, started_s):
        self.is_answered = self.is_answered or accepted
        self.throttle.release(None if accepted else REFUSED, {}, started_s=started_s)
        self.start()

    def exchange(self):
        """As `app/fleet_limits` does it."""
        throttle, limiter = self.throttle, self.throttle.rate_limiter
        throttle.set_part(1 / len(self.fleet.processes), leads=self.number == 0)
        self.told = limiter.last_cut, limiter.counts, throttle.breaker.opened_here
        for other in self.fleet.processes:
            cut, counts, is_open = other.told
            if other is self or counts is None:
                continue
            if is_open:
                throttle.trip()
            before, self.heard[other.number] = self.heard.get(other.number, counts), counts
            throttle.add_others(
                RequestCounts(accepted=counts.accepted - before.accepted, refused=counts.refused - before.refused)
            )
            if cut is not None:
                limiter.adopt(cut, in_flight=throttle.in_flight)
        self.fleet.at(self.fleet.now_s + EXCHANGE_S, self.exchange)
        self.start()


class Fleet:
    """Processes with equal parts; the first judges."""

    def __init__(self, server, processes, *, seed=1):
        self.server, self.seed, self.now_s, self.answers = server, seed, 0.0, []
        self.events, self.order = [], itertools.count()
        self.processes = [Process(self, number) for number in range(processes)]
        for number, process in enumerate(self.processes):
            process.throttle.set_part(1 / processes, leads=number == 0)
            self.at(0.001 * number, process.start)
            self.at(EXCHANGE_S * number / processes, process.exchange)

    def at(self, at_s, act):
        heapq.heappush(self.events, (at_s, next(self.order), act))

    def play(self, until_s):
        while self.events and self.events[0][0] < until_s:
            self.now_s, _, act = heapq.heappop(self.events)
            act()
        return self

    def after(self, from_s):
        """Accepted per second, and the share that was refused."""
        counted = [accepted for at_s, accepted in self.answers if at_s >= from_s]
        return sum(counted) / (self.now_s - from_s), 1 - sum(counted) / max(1, len(counted))

    @property
    def is_stopped(self):
        return any(process.throttle.breaker.open for process in self.processes)


@pytest.mark.parametrize(("per_s", "processes"), [(100, 8), (20, 4), (50, 2)])
def test_together_they_find_a_limit_that_answers_503_and_it_is_no_outage(per_s, processes):
    fleet = Fleet(Bucket(limit=per_s, per_s=per_s), processes).play(60)
    assert not fleet.is_stopped
    used, refused = fleet.after(15)
    assert used >= 0.8 * per_s
    assert refused <= 0.01


class Down:
    """Answers until it is down."""

    def __init__(self, from_s):
        self.from_s = from_s

    def take(self, at_s):
        return at_s < self.from_s


def test_an_outage_amid_good_answers_stops_all_of_them():
    fleet = Fleet(Down(0.2), 4).play(120)
    assert all(process.throttle.breaker.open for process in fleet.processes)


CUT = RateCut(at_s=10.0, initial_per_s=100.0, plateau_per_s=100.0, recovery_s=120.0)


def follower(*, leads=False):
    probe = CubicProbe(None)
    probe.set_part(0.5, 0.0, leads=leads)
    probe.adopt(CUT, in_flight=0)
    return probe


def test_a_process_that_does_not_judge_counts_its_503s_and_goes_on():
    probe = follower()
    probe.accepted(12.0)
    for _ in range(5):
        probe.refused_once(12.5, started_s=12.4)
        probe.refused(12.5, by_503=True)
    assert probe.last_cut == CUT
    assert probe.per_s(12.5) == 100.0
    assert probe.counts == RequestCounts(accepted=1, refused=10)
    lower = RateCut(at_s=10.5, initial_per_s=40.0, plateau_per_s=40.0, recovery_s=120.0)
    probe.adopt(lower, in_flight=0)
    assert probe.last_cut == lower, "also a lower one at about the same time"


def test_the_one_that_judges_slows_down_by_what_all_together_were_refused():
    probe = follower(leads=True)
    probe.add_others(RequestCounts(accepted=60, refused=40), 12.0)
    assert 60 <= probe.last_cut.initial_per_s <= 75
    assert probe.large_cuts == 2, "and the one that it heard of"
    probe.add_others(RequestCounts(accepted=60, refused=40), 12.5)
    assert probe.last_cut.at_s == 12.0, "they were sent before all knew"


def test_a_first_503_of_others_gives_a_rate_to_all():
    probe = CubicProbe(None)
    probe.set_part(0.5, 0.0)
    probe.add_others(RequestCounts(accepted=80, refused=0), 1.0)
    probe.add_others(RequestCounts(accepted=80, refused=5), 2.0)
    assert probe.per_s(2.0) == pytest.approx(160)


@pytest.mark.parametrize(("part", "leads"), [(0.5, False), (1.0, True)], ids=["does not judge", "is alone again"])
def test_a_first_503_of_others_means_nothing_to_a_process_that(part, leads):
    probe = CubicProbe(None)
    probe.set_part(part, 0.0, leads=leads)
    probe.add_others(RequestCounts(accepted=80, refused=5), 2.0)
    assert (probe.last_cut, probe.large_cuts, probe.plateau_per_s) == (None, 0, None)


def test_what_was_no_limit_is_lifted_for_all():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.set_part(0.5, 0.0)
    limiter.adopt(CUT, in_flight=0)
    limiter.forget_503s(20.0)
    assert limiter.last_cut.plateau_per_s >= 10_000


def test_only_the_one_that_judges_calls_503s_an_outage():
    found = {}
    for leads in (True, False):
        limit, now_s = UnannouncedLimit(known=True), 0.0
        limit.wait_for_others(1.0, leads=leads)
        limit.judge(None, started_s=0.0, now_s=0.01)
        found[leads] = set()
        for _ in range(300):
            now_s += 0.1
            found[leads].add(limit.judge(REFUSED, started_s=now_s - 0.01, now_s=now_s))
    assert Verdict.OUTAGE in found[True]
    assert Verdict.OUTAGE not in found[False]


def test_answers_of_others_show_that_a_slow_down_was_right():
    limit = UnannouncedLimit(known=True)
    limit.wait_for_others(1.0)
    for at_s in (10.0, 20.0, 30.0):
        limit.follow(at_s)
    limit.add_others(accepted=200, refused=2, now_s=40.0)
    limit.judge(None, started_s=40.0, now_s=40.01)
    verdicts = {limit.judge(REFUSED, started_s=41.0, now_s=41.01) for _ in range(4)}
    assert Verdict.OUTAGE not in verdicts
