import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.limits import Breaker, is_outage
from monitor.exchange import ApiError, NetworkFault

DOWN = ApiError(status=503)
LIMITED = ApiError(status=429)


def after(*outcomes):
    breaker = Breaker()
    for outcome in outcomes:
        breaker.record(outcome)
    return breaker.open


CASES = {
    "nothing yet": ([], False),
    "four failures": ([DOWN] * 4, False),
    "the first five": ([DOWN] * 5, True),
    "one success among the first five": ([DOWN] * 4 + [None] + [DOWN] * 5, False),
    "a 429 among the first five": ([DOWN, LIMITED, DOWN, DOWN, DOWN], False),
    "seventeen of twenty": ([None] * 3 + [DOWN] * 17, False),
    "eighteen of twenty": ([None] * 2 + [DOWN] * 18, True),
    "eighteen of nineteen": ([None] + [DOWN] * 18, False),
    "eighteen of the last twenty, later": ([None] * 100 + [DOWN] * 18, True),
    "eighteen failures spread over more": ([DOWN, None] * 18, False),
    "it stays open": ([DOWN] * 5 + [None] * 50, True),
}


@pytest.mark.parametrize(("outcomes", "opened"), CASES.values(), ids=CASES)
def test_the_breaker_opens_when_the_service_is_down(outcomes, opened):
    assert after(*outcomes) is opened


OUTAGES = {
    "408": (ApiError(status=408), True),
    "500": (ApiError(status=500), True),
    "599": (ApiError(status=599), True),
    "timeout": (ApiError(status=None, network=NetworkFault.TIMEOUT), True),
    "tls": (ApiError(status=None, network=NetworkFault.TLS), True),
    "too large": (ApiError(status=None, network=NetworkFault.TOO_LARGE), False),
    "429": (ApiError(status=429), False),
    "403": (ApiError(status=403), False),
    "302": (ApiError(status=302), False),
    "our own refusal": (ApiError(status=None), False),
}


@pytest.mark.parametrize(("failure", "outage"), OUTAGES.values(), ids=OUTAGES)
def test_only_an_outage_counts_against_the_service(failure, outage):
    assert is_outage(failure) is outage


@given(st.lists(st.sampled_from([None, DOWN, LIMITED]), max_size=60))
def test_the_breaker_never_closes_again(outcomes):
    breaker, was_open = Breaker(), False
    for outcome in outcomes:
        breaker.record(outcome)
        assert breaker.open or not was_open
        was_open = breaker.open
