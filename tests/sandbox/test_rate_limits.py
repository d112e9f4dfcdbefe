import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.sandbox.rate_limits import Rate, TokenBuckets, parse_rate

RATES = {
    "50/s": Rate(count=50, per_s=1.0),
    "600/m": Rate(count=600, per_s=60.0),
    "1000/h": Rate(count=1000, per_s=3600.0),
    "5/10s": Rate(count=5, per_s=10.0),
}


@pytest.mark.parametrize(("text", "rate"), RATES.items(), ids=list(RATES))
def test_a_rate_is_calls_per_time(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "50", "/s", "0/s", "5/0s", "-1/s", "1.5/s", "50/d", "50/s ", "\u0665/s", "5/s/s"])
def test_an_invalid_rate_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match=r"is not a rate: write requests per s, m or h, such as 50/s, 600/m or 5/10s"):
        parse_rate(text)


def test_a_burst_is_limited_to_the_rate():
    buckets = TokenBuckets(rate=parse_rate("3/m"))
    decisions = [buckets.take("key", 0.0) for _ in range(4)]
    assert [(decision.allowed, decision.remaining) for decision in decisions] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert (decisions[3].full_at_s, decisions[3].next_at_s) == (60.0, 20.0)


def test_each_credential_has_its_own_limit():
    buckets = TokenBuckets(rate=parse_rate("1/m"))
    assert [buckets.take(who, 0.0).allowed for who in ("key", "client", "key")] == [True, True, False]


def test_a_refused_call_does_not_count():
    buckets = TokenBuckets(rate=parse_rate("1/10s"))
    assert [buckets.take("key", now_s).allowed for now_s in (0.0, 3.0, 6.0, 9.0, 10.0)] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_the_headers_follow_the_reference_and_round_up():
    buckets = TokenBuckets(rate=parse_rate("2/3s"))
    buckets.take("key", 0.0)
    buckets.take("key", 0.0)
    refused = buckets.take("key", 0.2)
    sent_headers = refused.headers(unix_s=1_000_000.2, now_s=0.2, retry_after=True)
    assert sent_headers == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": "1000003",
        "Retry-After": "2",
    }


@pytest.mark.parametrize(("calls", "retry_after"), [(1, True), (3, False)], ids=["let in", "not asked for"])
def test_retry_after_is_sent_only_on_refusals_and_only_if_configured(calls, retry_after):
    buckets = TokenBuckets(rate=parse_rate("2/s"))
    decisions = [buckets.take("key", 0.0) for _ in range(calls)]
    assert "Retry-After" not in decisions[-1].headers(unix_s=0.0, now_s=0.0, retry_after=retry_after)


RATE = st.builds(
    Rate, count=st.integers(min_value=1, max_value=50), per_s=st.floats(min_value=0.125, max_value=3600, width=32)
)
PAUSES = st.lists(st.floats(min_value=0, max_value=100), max_size=60)


@given(rate=RATE, pauses=PAUSES)
def test_no_period_admits_more_than_the_rate_and_one_burst(rate, pauses):
    buckets, now_s, allowed = TokenBuckets(rate=rate), 0.0, 0
    for pause_s in pauses:
        now_s += pause_s
        allowed += buckets.take("key", now_s).allowed
    assert allowed <= rate.count + now_s * rate.count / rate.per_s + 0.01


@given(rate=RATE, pauses=PAUSES)
def test_a_call_after_retry_after_is_admitted(rate, pauses):
    buckets, now_s = TokenBuckets(rate=rate), 0.0
    for pause_s in pauses:
        now_s += pause_s
        decision = buckets.take("key", now_s)
        if not decision.allowed:
            now_s = decision.next_at_s
            assert buckets.take("key", now_s).allowed
    decision = buckets.take("key", now_s)
    assert buckets.take("key", float(math.ceil(decision.full_at_s))).remaining == rate.count - 1
