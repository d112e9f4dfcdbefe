"""The rate limiter against simulated servers in virtual time, and its single rules."""

import math

import pytest
from client.limited import Api, Bucket, Fixed, Latency, Run, Sliding, delta, duration, no_reset

from monitor.client.rate.estimate import FixedWindowEstimator
from monitor.client.rate.headers import RateLimitHeaders
from monitor.client.rate.limiter import RateLimiter, RateSource

NEAR, USUAL, FAR = Latency(round_s=0.005), Latency(round_s=0.05), Latency(round_s=0.2)


def play(api, *, share=1.0, warm_s=2.0, ceiling_per_s=None, **settings):
    """Plays a run; returns accepted requests per second after a warm-up, the share of 429s, and the run."""
    limiter = RateLimiter(ceiling_per_s=ceiling_per_s, share=share)
    run = Run(api=api, limiter=limiter, **settings)
    outcome = run.play()
    from_s, to_s = run.start_s + warm_s, run.start_s + run.lasts_s - run.latency.round_s
    return outcome.per_s(from_s, to_s), outcome.refused_share(from_s), run


def fixed(per_s, window_s=1, offset_s=0.0):
    return lambda: Fixed(limit=per_s * window_s, window_s=window_s, offset_s=offset_s)


def bucket(per_s, limit=None, until="full"):
    return lambda: Bucket(limit=limit or per_s, per_s=per_s, until=until)


WHOLE = {
    "10/s in windows, one at a time": (fixed(10), 10, 1, NEAR),
    "10/s in windows, many at a time": (fixed(10), 10, 256, USUAL),
    "10/s in windows off whole seconds, far away": (fixed(10, 1, 0.3), 10, 32, FAR),
    "10/s in windows of 10 s": (fixed(10, 10), 10, 8, USUAL),
    "10/s in windows of 60 s off whole seconds": (fixed(10, 60, 18.3), 10, 32, FAR),
    "50/s in windows": (fixed(50), 50, 8, USUAL),
    "50/s in windows off whole seconds": (fixed(50, 1, 0.3), 50, 8, USUAL),
    "50/s in windows, far away": (fixed(50), 50, 32, FAR),
    "50/s in windows of 10 s": (fixed(50, 10, 3.3), 50, 32, USUAL),
    "200/s in windows": (fixed(200), 200, 256, NEAR),
    "200/s in windows of 10 s, far away": (fixed(200, 10), 200, 256, FAR),
    "1000/s in windows": (fixed(1000), 1000, 256, NEAR),
    "50/s out of a bucket": (bucket(50), 50, 8, USUAL),
    "50/s out of a bucket, one at a time": (bucket(50), 50, 1, NEAR),
    "50/s out of a bucket, far away": (bucket(50), 50, 32, FAR),
    "50/s out of a bucket that names the next token": (bucket(50, until="next"), 50, 8, USUAL),
    "50/s out of a small bucket": (bucket(50, 10), 50, 8, NEAR),
    "10/s out of a bucket of 600": (bucket(10, 600), 10, 8, USUAL),
    "200/s out of a bucket": (bucket(200), 200, 256, USUAL),
    "1000/s out of a bucket": (bucket(1000), 1000, 256, USUAL),
}


@pytest.mark.parametrize(("server", "per_s", "in_flight", "latency"), WHOLE.values(), ids=WHOLE)
def test_it_uses_a_stated_limit_with_few_refusals(server, per_s, in_flight, latency):
    window_s = getattr(server(), "window_s", 1)
    lasts_s = 20 + 2 * window_s if per_s < 1000 else 10
    got_per_s, refused, _ = play(
        Api(server=server()), in_flight=in_flight, latency=latency, lasts_s=lasts_s, warm_s=max(2, window_s)
    )
    assert got_per_s >= 0.95 * per_s
    assert refused <= 0.005


@pytest.mark.parametrize("reset", [delta, duration], ids=["seconds from now", "durations"])
@pytest.mark.parametrize("server", [fixed(50), fixed(50, 10, 3.3), bucket(50)], ids=["1 s", "10 s", "bucket"])
def test_it_reads_resets_of_any_form_alike(server, reset):
    got_per_s, refused, _ = play(Api(server=server(), reset=reset), lasts_s=40, warm_s=10)
    assert got_per_s >= 0.95 * 50
    assert refused <= 0.005


SHARED = {
    "windows of 1 s": (fixed(50), 8, USUAL),
    "windows of 1 s off whole seconds": (fixed(50, 1, 0.3), 8, USUAL),
    "windows of 10 s": (fixed(50, 10), 8, USUAL),
    "windows of 60 s": (fixed(50, 60), 8, USUAL),
    "bucket": (bucket(50), 8, USUAL),
    "bucket, far away": (bucket(50), 32, FAR),
}


@pytest.mark.parametrize(("server", "in_flight", "latency"), SHARED.values(), ids=SHARED)
def test_it_takes_no_more_than_its_share(server, in_flight, latency):
    window_s = getattr(server(), "window_s", 1)
    got_per_s, refused, _ = play(
        Api(server=server()),
        share=0.5,
        in_flight=in_flight,
        latency=latency,
        lasts_s=20 + 3 * window_s,
        warm_s=max(2, window_s),
    )
    assert 0.45 * 50 <= got_per_s <= 0.51 * 50
    assert refused <= 0.005


STEADY = {
    "log of 1 s": (lambda: Sliding(limit=50, window_s=1), 50, 1),
    "log of 10 s": (lambda: Sliding(limit=500, window_s=10), 50, 10),
    "log of 60 s": (lambda: Sliding(limit=3000, window_s=60), 50, 60),
    "bucket of 600": (bucket(10, 600), 10, 60),
    "bucket of 3000": (bucket(50, 3000), 50, 60),
}


@pytest.mark.parametrize(("server", "per_s", "window_s"), STEADY.values(), ids=STEADY)
def test_in_the_long_run_it_takes_its_share_of_a_steady_supply(server, per_s, window_s):
    lasts_s = 300 + 3 * window_s
    got_per_s, refused, run = play(Api(server=server()), share=0.5, lasts_s=lasts_s, warm_s=lasts_s - 120)
    assert run.limiter.per_s is None or run.limiter.per_s == pytest.approx(per_s / 2, rel=0.1)
    assert 0.45 * per_s <= got_per_s <= 0.52 * per_s
    assert refused <= 0.005


@pytest.mark.parametrize("server", [fixed(50), fixed(50, 10), fixed(50, 60)], ids=["1 s", "10 s", "60 s"])
def test_its_share_leaves_enough_for_the_pipeline(server):
    window_s = server().window_s
    got_per_s, refused, run = play(
        Api(server=server()), share=0.5, lasts_s=20 + 2 * window_s, warm_s=max(2, window_s), others_per_s=20
    )
    assert 0.45 * 50 <= got_per_s <= 0.51 * 50
    assert refused <= 0.005
    assert len(run.outcome.others_refused) <= 0.01 * len(run.outcome.others)


LOGS = {"10 s": (10, 0.95, 0.005), "1 s": (1, 0.9, 0.005)}


@pytest.mark.parametrize(("window_s", "use", "refused_at_most"), LOGS.values(), ids=LOGS)
def test_a_sliding_log_limit_is_used_almost_fully(window_s, use, refused_at_most):
    server = Sliding(limit=200 * window_s, window_s=window_s)
    got_per_s, refused, _ = play(Api(server=server), in_flight=32, latency=USUAL, lasts_s=40, warm_s=10)
    assert got_per_s >= use * 200
    assert refused <= refused_at_most


UNTOLD = {
    "windows of 1 s": (fixed(50), "retry", 0.8),
    "windows of 10 s": (fixed(50, 10), "retry", 0.85),
    "bucket": (bucket(50), "retry", 0.8),
    "windows of 1 s, not a word": (fixed(50), "nothing", 0.8),
    "windows of 10 s, not a word": (fixed(50, 10), "nothing", 0.85),
}


@pytest.mark.parametrize(("server", "says", "use"), UNTOLD.values(), ids=UNTOLD)
def test_without_headers_it_finds_the_limit_by_probing(server, says, use):
    got_per_s, refused, _ = play(Api(server=server(), says=says), in_flight=8, latency=USUAL, lasts_s=90, warm_s=30)
    assert got_per_s >= use * 50
    assert refused <= 0.02


def test_without_resets_it_learns_windows_from_remaining_counts():
    got_per_s, refused, _ = play(Api(server=fixed(50)(), reset=no_reset), lasts_s=30, warm_s=5)
    assert got_per_s >= 0.9 * 50
    assert refused <= 0.005


def test_windows_of_fractional_seconds_are_learned():
    got_per_s, refused, run = play(Api(server=Fixed(limit=75, window_s=1.5)), lasts_s=30, warm_s=5)
    assert got_per_s >= 0.95 * 50
    assert refused <= 0.005
    assert run.limiter.per_s == pytest.approx(50, rel=0.05)


def test_a_limit_of_two_per_second_is_not_exceeded():
    got_per_s, refused, _ = play(Api(server=fixed(2)()), in_flight=4, first=1, lasts_s=60, warm_s=10)
    assert got_per_s >= 0.8 * 2
    assert refused <= 0.02


def test_it_follows_a_limit_that_changes():
    server = fixed(50, 10)()

    def halve(now_s, api):
        api.server.limit = 500 if now_s < 40 else 250

    _, refused, run = play(Api(server=server), lasts_s=100, warm_s=60, on_event=halve)
    assert run.outcome.per_s(60, 100) == pytest.approx(25, rel=0.05)
    assert refused <= 0.005
    assert run.limiter.per_s == pytest.approx(25)


def test_a_pause_of_many_windows_does_not_confuse_it():
    got_per_s, refused, _ = play(Api(server=fixed(50)()), lasts_s=40, warm_s=25, pauses=((8, 23.4),))
    assert got_per_s >= 0.95 * 50
    assert refused <= 0.005


def test_a_configured_ceiling_is_never_exceeded():
    got_per_s, refused, run = play(Api(server=fixed(50)()), ceiling_per_s=20, lasts_s=20)
    assert got_per_s == pytest.approx(20, rel=0.02)
    assert refused == 0
    assert run.limiter.per_s == pytest.approx(50)


def test_without_any_limit_requests_start_at_once():
    limiter = RateLimiter(ceiling_per_s=None, share=0.5)
    assert all(limiter.wait_s(0.0, in_flight) == 0 for in_flight in range(1000))
    assert limiter.per_s is None


def test_it_starts_with_the_limits_of_an_earlier_run():
    limiter = RateLimiter(ceiling_per_s=None, share=0.5, learned_per_s=10)
    assert limiter.per_s == 10
    assert limiter.wait_s(0.0, 0) == 0
    assert limiter.wait_s(0.0, 1) == pytest.approx(0.1)
    assert limiter.wait_s(0.1, 1) == 0


def test_a_configured_ceiling_is_not_stored_as_learned():
    limiter = RateLimiter(ceiling_per_s=10, share=1.0)
    assert limiter.wait_s(0.0, 0) == 0
    assert limiter.wait_s(0.0, 1) == pytest.approx(0.1)
    assert limiter.per_s is None


def test_a_late_start_is_caught_up_within_bounds():
    limiter = RateLimiter(ceiling_per_s=100, share=1.0)
    assert limiter.wait_s(0.0, 0) == 0
    assert limiter.wait_s(0.012, 0) == 0
    assert limiter.wait_s(0.012, 0) == pytest.approx(0.008)
    assert limiter.wait_s(50.0, 0) == 0
    assert limiter.wait_s(50.0, 0) == 0
    assert limiter.wait_s(50.0, 0) == pytest.approx(0.01)


def test_refusals_of_simultaneous_requests_count_once():
    """Ten accepted in a second, then many 429s: only the first one counts."""
    once, often = (RateLimiter(ceiling_per_s=None, share=1.0) for _ in range(2))
    for limiter, refusals in ((once, 1), (often, 6)):
        for number in range(11):
            limiter.accepted(number / 10)
        limiter.refused(1.1)
        for left in range(refusals - 1, 0, -1):
            assert limiter.wait_s(1.1 + refusals - left, left) == 0
            limiter.refused(1.2 + refusals - left)
        assert limiter.wait_s(8.0, 0) == 0
        limiter.accepted(8.1)
    assert once.per_s == often.per_s == pytest.approx(1.25 * 12 / 8.1, rel=0.01)


def test_a_429_sets_the_rate_just_below_the_accepted_one():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    for number in range(41):
        limiter.accepted(number / 20)
    limiter.refused(2.05)
    assert limiter.wait_s(2.06, 0) == 0
    assert limiter.wait_s(2.07, 1) > 0.9
    limiter.accepted(2.1)
    assert limiter.per_s == pytest.approx(0.97 * 20, rel=0.06)


def test_repeated_refusals_keep_the_rate_above_its_minimum():
    limiter, now_s = RateLimiter(ceiling_per_s=None, share=1.0), 0.0
    for number in range(300):
        now_s += limiter.wait_s(now_s, 0) or 0.01
        if limiter.wait_s(now_s, 0) == 0:
            (limiter.accepted if number % 3 == 0 else limiter.refused)(now_s)
    assert limiter.per_s >= 1
    assert limiter.wait_s(now_s, 0) <= 1


def test_a_window_without_a_remaining_count_is_a_rate():
    limiter = RateLimiter(ceiling_per_s=None, share=0.5)
    limiter.observe(RateLimitHeaders(limit=100, window_s=10), sent_s=0.0, in_flight=0)
    assert limiter.per_s == 5
    assert limiter.wait_s(0.0, 0) == 0
    assert limiter.wait_s(0.0, 1) == pytest.approx(0.2)


def test_a_limit_without_a_window_is_ignored():
    limiter = RateLimiter(ceiling_per_s=None, share=0.5)
    limiter.observe(RateLimitHeaders(limit=100), sent_s=0.0, in_flight=0)
    assert limiter.per_s is None
    assert limiter.wait_s(0.0, 0) == limiter.wait_s(0.0, 1) == 0


def test_requests_wait_for_the_end_of_a_used_up_window():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.observe(RateLimitHeaders(limit=100, remaining=0, reset_in_s=30), sent_s=0.0, in_flight=0)
    assert limiter.wait_s(5.0, 0) == pytest.approx(25)
    assert limiter.wait_s(30.0, 0) == 0


def test_requests_in_flight_count_against_the_remaining_ones():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.observe(RateLimitHeaders(limit=100, remaining=8, reset_in_s=30), sent_s=0.0, in_flight=8)
    assert limiter.wait_s(1.0, 8) == pytest.approx(29)


def test_a_remaining_count_without_a_limit_is_used():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.observe(RateLimitHeaders(remaining=9, reset_in_s=10), sent_s=0.0, in_flight=0)
    started = 0
    for tenth in range(100):
        started += limiter.wait_s(tenth / 10, started) == 0
    assert 8 <= started <= 9


def test_a_used_up_window_without_an_end_is_tried_once_a_second():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.observe(RateLimitHeaders(limit=100, remaining=0), sent_s=0.0, in_flight=0)
    started = [tenth / 10 for tenth in range(100) if limiter.wait_s(tenth / 10, 0) == 0]
    assert started == list(range(1, 10))


def test_an_outdated_reply_changes_nothing():
    limiter, other = (RateLimiter(ceiling_per_s=None, share=1.0) for _ in range(2))
    for each in (limiter, other):
        each.observe(RateLimitHeaders(limit=100, remaining=0, reset_in_s=30), sent_s=1.0, in_flight=0)
    other.observe(RateLimitHeaders(limit=100, remaining=99, reset_in_s=30), sent_s=0.5, in_flight=0)
    assert limiter.wait_s(2.0, 0) == other.wait_s(2.0, 0) > 1


def test_even_the_smallest_share_gets_one_request_per_window():
    limiter = RateLimiter(ceiling_per_s=None, share=0.1)
    limiter.observe(RateLimitHeaders(limit=2, remaining=2, reset_in_s=1), sent_s=0.0, in_flight=0)
    assert any(limiter.wait_s(tenth / 10, 0) == 0 for tenth in range(20))
    assert math.isfinite(limiter.wait_s(2.0, 0))


def window_of_ten_seconds():
    """Windows of 100 requests, learned from two starts at 10 s and 20 s; 90 are used by 28 s."""
    window = FixedWindowEstimator(share=1.0)
    window.reset(100, 50, 50, 0)
    window.start_window(RateLimitHeaders(reset_in_s=10), 99, 101, 9.9, 10.0)
    window.start_window(RateLimitHeaders(reset_in_s=10), 99, 201, 19.9, 20.0)
    assert window.per_s == 10
    window.observe(RateLimitHeaders(reset_in_s=2), 10, 290, 28.0)
    return window


def test_requests_wait_for_a_window_that_lasts_longer_than_predicted():
    window = window_of_ten_seconds()
    assert window.wait_s(30.5, 290) <= 0
    window.observe(RateLimitHeaders(reset_in_s=1), 9, 291, 30.5)
    assert window.per_s == 10
    assert window.wait_s(30.5, 291) <= 0.1


def test_a_window_length_with_wrong_predictions_is_forgotten():
    window = window_of_ten_seconds()
    assert window.wait_s(34.0, 290) <= 0
    window.observe(RateLimitHeaders(reset_in_s=7), 9, 291, 34.0)
    assert window.per_s is None
    assert window.wait_s(35.0, 300) == pytest.approx(6)


def test_starts_that_contradict_the_resets_teach_no_window_length():
    window = FixedWindowEstimator(share=1.0)
    window.reset(100, 50, 50, 0)
    window.start_window(RateLimitHeaders(reset_in_s=60), 99, 101, 9.9, 10.0)
    window.start_window(RateLimitHeaders(reset_in_s=60), 99, 201, 19.9, 20.0)
    assert window.per_s is None


def starts_per_s(limiter, lasts_s=20.0):
    """Requests per second that start under constant demand, in virtual time."""
    now_s, starts = 100.0, 0
    while now_s < 100.0 + lasts_s:
        wait_s = limiter.wait_s(now_s, 0)
        starts += wait_s == 0
        now_s += max(wait_s, 1e-5)
    return starts / lasts_s


RESTRAINED = [
    ("a configured rate", {"ceiling_per_s": 40.0}, 0.25, 10),
    ("a learned rate", {"ceiling_per_s": None, "learned_per_s": 20.0}, 0.5, 10),
    ("the slower of both", {"ceiling_per_s": 40.0, "learned_per_s": 20.0}, 0.25, 5),
    ("no less than one a second", {"ceiling_per_s": 4.0}, 1 / 32, 1),
    ("a rate below one a second as it is", {"ceiling_per_s": 0.5}, 1 / 32, 0.5),
    ("none", {"ceiling_per_s": 40.0}, 1.0, 40),
]


@pytest.mark.parametrize(("known", "factor", "per_s"), [row[1:] for row in RESTRAINED], ids=[r[0] for r in RESTRAINED])
def test_a_throttle_factor_reduces_the_known_rate(known, factor, per_s):
    limiter = RateLimiter(share=1.0, **known)
    limiter.set_throttle_factor(factor)
    assert starts_per_s(limiter) == pytest.approx(per_s, rel=0.06, abs=0.06)


def test_the_end_of_a_throttle_factor_restores_the_rate():
    limiter = RateLimiter(ceiling_per_s=40.0, share=1.0)
    limiter.set_throttle_factor(0.25)
    limiter.set_throttle_factor(1.0)
    assert starts_per_s(limiter) == pytest.approx(40, rel=0.06)


def test_a_throttle_factor_has_no_effect_without_a_known_limit():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    limiter.set_throttle_factor(0.25)
    assert [limiter.wait_s(0.0, n) for n in range(50)] == [0.0] * 50


@pytest.mark.parametrize(
    ("ceiling_per_s", "learned_per_s", "source"),
    [
        (None, None, RateSource.LEARNED),
        (10, None, RateSource.CONFIGURED),
        (10, 20, RateSource.CONFIGURED),
        (10, 5, RateSource.LEARNED),
    ],
)
def test_what_bounds_the_rate_is_the_lower_of_the_configured_and_the_learned_one(ceiling_per_s, learned_per_s, source):
    limiter = RateLimiter(ceiling_per_s=ceiling_per_s, share=1.0, learned_per_s=learned_per_s)
    assert (limiter.ceiling_per_s, limiter.source) == (ceiling_per_s, source)


def learned(*events, per_s):
    """What a run hands on that began with that rate and saw those replies, one per 0.1 s."""
    limiter = RateLimiter(ceiling_per_s=None, share=1.0, learned_per_s=per_s)
    for number, event in enumerate(events):
        limiter.wait_s(number / 10, 1)
        getattr(limiter, event)(number / 10)
    return limiter.learned_per_s


@pytest.mark.parametrize(
    ("events", "per_s", "expected"),
    [
        (["accepted"] * 5, 8.0, 10.0),  # a quarter more
        (["accepted"] * 25, 1.0, 10.0),  # ten per second were accepted
        (["accepted"] * 5, 9_000.0, 10_000.0),  # the highest that is kept
        ([], 8.0, 8.0),
        (["accepted"] * 5, None, None),
    ],
)
def test_a_run_without_a_refusal_hands_on_a_higher_rate(events, per_s, expected):
    assert learned(*events, per_s=per_s) == pytest.approx(expected)


def test_a_run_with_a_refusal_hands_on_the_rate_that_it_found():
    assert learned("accepted", "refused", per_s=8.0) <= 8.0


def test_replies_to_requests_from_before_the_probe_end_no_pause():
    limiter = RateLimiter(ceiling_per_s=None, share=1.0)
    for n in range(80):
        limiter.accepted(n / 20)
    limiter.refused(4.0)
    assert limiter.wait_s(5.0, 2) == 0.0, "the probe, while two older requests are under way"
    for now_s in (5.1, 5.2):
        limiter.accepted(now_s)
        assert limiter.wait_s(now_s, 1) == pytest.approx(6.0 - now_s), "one request per second"
    limiter.accepted(5.3)
    assert limiter.wait_s(5.3, 0) < 0.7
