"""Several rate limiters that divide one limit: simulated servers in virtual time, and the single rules of a part."""

import pytest
from client.limited import Api, Bucket, Fixed, Fleet, Latency, Run

from monitor.client.rate.headers import RateLimitHeaders
from monitor.client.rate.limiter import RateLimiter
from monitor.client.rate.probe import CubicProbe, RateCut

PER_S = 500
SLOW = (pytest.mark.process, pytest.mark.nightly)
"""Repeats a simulation of a second with other numbers."""
WORKERS = [pytest.param(2, marks=SLOW), 8]
CUT = RateCut(at_s=10.0, initial_per_s=95.0, plateau_per_s=97.0, recovery_s=20.0)


def play(server, workers, *, says="all", lasts_s=20.0, warm_s=6.0, parts=None, rate_share=1.0):
    """Accepted requests per second, and the share of 429s, after a warm-up; and the fleet."""
    api = Api(server=server, says=says)
    runs = [
        Run(
            api=api,
            limiter=RateLimiter(ceiling_per_s=None, share=rate_share),
            in_flight=256 // workers,
            latency=Latency(round_s=0.05),
            lasts_s=lasts_s,
            seed=number + 1,
        )
        for number in range(workers)
    ]
    fleet = Fleet(runs=runs, parts=parts or {})
    fleet.play()
    from_s = runs[0].start_s + warm_s
    return fleet.per_s(from_s, runs[0].start_s + lasts_s - 1), fleet.refused_share(from_s), fleet


SERVERS = {
    "bucket": lambda: Bucket(limit=PER_S, per_s=PER_S),
    "small bucket": lambda: Bucket(limit=PER_S // 5, per_s=PER_S),
    "windows of 1 s": lambda: Fixed(limit=PER_S, window_s=1, offset_s=0.3),
}


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_together_they_use_a_stated_limit_with_few_refusals(server, workers):
    per_s, refused, fleet = play(server(), workers)
    assert per_s >= 0.95 * PER_S
    assert refused <= 0.005
    each = [run.outcome.per_s(6, 19) for run in fleet.runs]
    assert min(each) >= 0.5 * PER_S / workers, "none is left with next to nothing"


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("says", [pytest.param("retry", marks=SLOW), "nothing"])
def test_together_they_find_a_limit_that_is_not_stated(says, workers):
    per_s, refused, _ = play(SERVERS["bucket"](), workers, says=says, lasts_s=50, warm_s=20)
    assert per_s >= 0.95 * PER_S
    assert refused <= 0.005


def test_together_they_take_their_share_of_a_limit_and_leave_the_rest_to_others():
    per_s, refused, _ = play(SERVERS["windows of 1 s"](), 4, rate_share=0.5)
    assert 0.45 * PER_S <= per_s <= 0.51 * PER_S
    assert refused == 0


@pytest.mark.parametrize("says", ["all", pytest.param("nothing", marks=SLOW)])
def test_the_limit_stays_in_use_when_parts_change(says):
    changes = {30.0: [0.5, 0.5, 0, 0], 45.0: [0.75, 0.25, 0, 0]}
    _, _, fleet = play(SERVERS["bucket"](), 4, says=says, lasts_s=60, parts=changes)
    for from_s, to_s in ((20, 29), (33, 44), (48, 59)):
        assert fleet.per_s(from_s, to_s) >= 0.9 * PER_S
    assert fleet.refused_share(20) <= 0.005
    first, second, *_ = fleet.runs
    assert first.outcome.per_s(50, 59) >= 2 * second.outcome.per_s(50, 59)


def test_a_few_requests_per_window_are_divided_without_refusals():
    per_s, refused, _ = play(Fixed(limit=20, window_s=1), 8, lasts_s=60, warm_s=10)
    assert per_s == pytest.approx(8 * 2, abs=0.5), "whole requests for each: two and a half are two"
    assert refused <= 0.005


def starts(limiter, until_s, *, from_s=0.0, in_flight=0):
    """When requests start that are always due."""
    found, now_s = [], from_s
    while now_s < until_s:
        wait_s = limiter.wait_s(now_s, in_flight)
        if wait_s:
            now_s += wait_s
        else:
            found.append(now_s)
    return found


def test_a_part_of_a_configured_rate():
    limiter = RateLimiter(ceiling_per_s=100, share=1.0)
    limiter.set_part(0.25, 0.0)
    assert len(starts(limiter, 9.999)) == pytest.approx(250, abs=1)
    limiter.set_part(1.0, 10.0)
    assert len(starts(limiter, 19.999, from_s=10.0)) == pytest.approx(1000, abs=4)
    assert limiter.ceiling_per_s == 100


def test_a_part_of_a_rate_that_an_earlier_run_learned_is_stored_as_the_whole():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0, learned_per_s=80)
    limiter.set_part(0.125, 0.0)
    started = starts(limiter, 3.0)
    assert len(started) == pytest.approx(30, abs=2)
    for at_s in started:
        limiter.accepted(at_s)
    assert limiter.per_s == 80
    assert limiter.learned_per_s == pytest.approx(1.25 * 80)


def test_a_throttle_factor_and_a_part_are_multiplied():
    limiter = RateLimiter(ceiling_per_s=100, share=1.0)
    limiter.set_throttle_factor(0.5)
    limiter.set_part(0.2, 0.0)
    assert len(starts(limiter, 9.999)) == pytest.approx(100, abs=1)


def test_a_part_of_a_rate_that_a_policy_states():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.observe(RateLimitHeaders(limit=100, window_s=10), sent_s=0.0, in_flight=0)
    limiter.set_part(0.5, 0.0)
    assert len(starts(limiter, 9.999)) == pytest.approx(50, abs=1)
    assert limiter.per_s == 10


def test_a_part_learns_the_whole_from_a_refusal():
    """A quarter is accepted 10 times a second, so the API accepts 40 a second."""
    whole, quarter = CubicProbe(None), CubicProbe(None)
    quarter.set_part(0.25, 0.0)
    for probe, per_s in ((whole, 40), (quarter, 10)):
        for number in range(2 * per_s + 1):
            probe.accepted(number / per_s)
        probe.refused(2.0)
        assert probe.per_s(2.1) == pytest.approx(1.0 if probe is whole else 4.0), "one a second for each"
        probe.started(3.0, 0)
        probe.accepted(3.1)
    assert whole.plateau_per_s == pytest.approx(1.25 * 82 / 3.1, rel=0.02), "not more than it sustained"
    assert quarter.plateau_per_s == pytest.approx(0.97 * 40), "no such bound, since others went on meanwhile"
    assert quarter.last_cut == RateCut(
        at_s=3.1,
        initial_per_s=quarter.last_cut.initial_per_s,
        plateau_per_s=quarter.plateau_per_s,
        recovery_s=quarter.last_cut.recovery_s,
    )


def test_what_was_counted_with_another_part_does_not_count():
    probe = CubicProbe(10.0)
    for number in range(200):
        probe.accepted(number / 20)
    probe.set_part(0.1, 10.0)
    for number in range(10):
        probe.accepted(10.0 + number / 10)
    assert probe.learned_per_s == pytest.approx(20.0, rel=0.02), "the most that was seen, not ten times that"


def test_a_process_follows_the_refusal_of_another():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.set_part(0.5, 0.0)
    assert starts(limiter, 0.5, from_s=0.5) == []
    assert limiter.last_cut is None
    limiter.adopt(CUT, in_flight=3)
    assert limiter.last_cut == CUT
    assert limiter.per_s == limiter.learned_per_s == 97.0
    assert len(starts(limiter, 20.0, from_s=10.0)) == pytest.approx(485, rel=0.02)


OTHER_CUTS = {
    "an older one": (5.0, 300.0, False),
    "a newer one": (12.0, 50.0, True),
    "a lower one at the same time": (10.4, 50.0, False),
    "a higher one at the same time": (9.6, 300.0, True),
    "its own": (10.001, 97.0, False),
}


@pytest.mark.parametrize(("at_s", "per_s", "adopted"), OTHER_CUTS.values(), ids=OTHER_CUTS)
def test_of_two_cuts_the_newer_one_counts_and_at_the_same_time_the_higher_one(at_s, per_s, adopted):
    probe, other = CubicProbe(None), RateCut(at_s=at_s, initial_per_s=per_s, plateau_per_s=per_s, recovery_s=5.0)
    probe.adopt(CUT, in_flight=0)
    probe.adopt(other, in_flight=0)
    assert probe.last_cut == (other if adopted else CUT)


def test_refusals_of_requests_in_flight_belong_to_the_cut_of_the_other():
    probe = CubicProbe(None)
    probe.set_part(0.5, 0.0)
    probe.adopt(CUT, in_flight=2)
    probe.refused(10.1)
    probe.refused(10.1)
    assert probe.plateau_per_s == 97.0
    assert probe.per_s(10.2) >= 95.0


def test_a_refusal_within_a_second_of_a_cut_is_a_pause_and_no_other_cut():
    probe = CubicProbe(None)
    probe.set_part(0.5, 0.0)
    probe.adopt(CUT, in_flight=0)
    for number in range(10):
        probe.accepted(10.0 + number / 20)
    probe.refused(10.5)
    probe.started(11.5, 0)
    probe.accepted(11.6)
    assert probe.last_cut == CUT
    assert probe.per_s(11.6) >= 95.0


def test_single_refusals_within_a_second_of_a_cut_change_nothing():
    probe = CubicProbe(None)
    probe.adopt(CUT, in_flight=0)
    probe.set_part(0.5, 10.0)
    probe.refused_once(10.6, started_s=10.5)
    assert probe.last_cut == CUT
    probe.refused_once(11.6, started_s=11.5)
    assert probe.plateau_per_s < 97.0


def test_a_refusal_just_after_a_large_change_of_the_part_is_a_pause():
    probe = CubicProbe(50.0)
    probe.set_part(0.125, 0.0)
    probe.set_part(0.5, 5.0)
    probe.refused(5.5)
    assert probe.per_s(5.5) == pytest.approx(2.0), "one a second from a half of it"
    probe.started(6.5, 0)
    probe.accepted(6.6)
    assert (probe.last_cut, probe.plateau_per_s) == (None, 50.0)
    probe.set_part(0.4, 6.7)
    probe.refused(6.8)
    probe.started(7.8, 0)
    probe.accepted(7.9)
    assert probe.last_cut is not None
