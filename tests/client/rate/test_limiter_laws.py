import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.rate.headers import RateLimitHeaders
from monitor.client.rate.limiter import RateLimiter

SHARES = st.sampled_from([0.05, 0.3, 0.5, 1.0])
QUOTAS = st.builds(
    RateLimitHeaders,
    limit=st.none() | st.integers(1, 2000) | st.just(10**15),
    remaining=st.none() | st.integers(0, 2000) | st.just(10**15),
    reset_in_s=st.none() | st.floats(1e-3, 3600),
    window_s=st.none() | st.sampled_from([1.0, 10.0, 60.0, 1e15]),
)
STEPS = st.lists(
    st.tuples(
        st.floats(0, 3) | st.floats(0, 5000) | st.just(0.0),
        st.sampled_from(["ask", "ask", "accept", "refuse", "tell", "tell"]),
        QUOTAS,
        st.integers(0, 300),
    ),
    max_size=80,
)
CEILINGS = st.none() | st.floats(0.01, 5000)


def walk(limiter, steps):
    """Applies the steps; yields the time and the returned wait of each request."""
    now_s = sent_s = 0.0
    for passed_s, what, rate_limit, in_flight in steps:
        now_s += passed_s
        if what == "ask":
            wait_s = limiter.wait_s(now_s, in_flight)
            sent_s = now_s if wait_s == 0 else sent_s
            yield now_s, wait_s
        elif what == "accept":
            limiter.accepted(now_s)
        elif what == "refuse":
            limiter.refused(now_s)
        else:
            limiter.observe(rate_limit, sent_s=sent_s, in_flight=in_flight)


@given(CEILINGS, SHARES, CEILINGS, STEPS)
def test_every_wait_is_finite_and_learned_limits_are_above_zero(ceiling, share, learned, steps):
    limiter = RateLimiter(ceiling_per_s=ceiling, share=share, learned_per_s=learned)
    for _, wait_s in walk(limiter, steps):
        assert 0 <= wait_s < math.inf
    assert limiter.per_s is None or 0 < limiter.per_s < math.inf


@given(st.floats(0.01, 5000), SHARES, STEPS)
def test_a_ceiling_is_never_exceeded(ceiling, share, steps):
    started = [now_s for now_s, wait_s in walk(RateLimiter(ceiling_per_s=ceiling, share=share), steps) if wait_s == 0]
    for first in range(len(started)):
        for last in range(first, len(started)):
            assert last - first + 1 <= 1.001 + (started[last] - started[first] + 0.0101) * ceiling


@given(CEILINGS, SHARES, STEPS, st.floats(0, 5), st.floats(0, 100))
def test_a_denied_request_changes_nothing(ceiling, share, steps, soon_s, later_s):
    limiter = RateLimiter(ceiling_per_s=ceiling, share=share)
    now_s = sum(passed_s for passed_s, *_ in steps) + soon_s
    list(walk(limiter, steps))
    asked = copy.deepcopy(limiter)
    if asked.wait_s(now_s, 5) > 0:
        assert asked.wait_s(now_s + later_s, 5) == pytest.approx(limiter.wait_s(now_s + later_s, 5), abs=1e-6)
    assert asked.per_s is None or asked.per_s > 0


@given(
    SHARES,
    st.integers(1, 500),
    st.integers(0, 500),
    st.floats(0.1, 100),
    st.integers(0, 50),
    st.lists(st.floats(0.001, 0.999), max_size=300),
)
def test_requests_before_a_reset_never_exceed_the_remaining_count(
    share, limit, remaining, reset_in_s, in_flight, fractions
):
    remaining = min(remaining, limit)
    limiter = RateLimiter(ceiling_per_s=None, share=share)
    limiter.observe(
        RateLimitHeaders(limit=limit, remaining=remaining, reset_in_s=reset_in_s), sent_s=0.0, in_flight=in_flight
    )
    started = sum(limiter.wait_s(part * reset_in_s, in_flight) == 0 for part in sorted(fractions))
    assert started <= max(0, remaining - in_flight)
    assert started <= max(share * limit, 1)
