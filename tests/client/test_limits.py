import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.limits import Breaker, ConcurrencyLimit, RetryBudget, ServerBackoff, is_outage, is_overload
from monitor.model.http import ApiError, NetworkFault

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
def test_the_breaker_stays_open_for_the_run(outcomes):
    breaker, was_open = Breaker(), False
    for outcome in outcomes:
        breaker.record(outcome)
        assert breaker.open or not was_open
        was_open = breaker.open


def test_a_new_breaker_is_closed():
    breaker = Breaker()
    assert (breaker.open, breaker.half_open, breaker.down) == (False, False, False)


def test_a_run_that_inherits_an_open_breaker_sends_one_probe():
    breaker = Breaker(down=True)
    assert breaker.open
    breaker.start_run()
    assert (breaker.open, breaker.half_open) == (False, True)
    breaker.record(DOWN)
    assert breaker.open


@pytest.mark.parametrize("answer", [None, LIMITED, ApiError(status=403)])
def test_any_answer_to_the_probe_closes_the_breaker(answer):
    breaker = Breaker(down=True)
    breaker.start_run()
    breaker.record(answer)
    breaker.record(DOWN)
    assert (breaker.open, breaker.half_open) == (False, False)


def test_a_new_run_starts_counting_at_zero():
    breaker = Breaker()
    for outcome in [None, *[DOWN] * 17]:
        breaker.record(outcome)
    breaker.start_run()
    for _ in range(4):
        breaker.record(DOWN)
    assert (breaker.open, breaker.half_open) == (False, False)
    breaker.record(DOWN)
    assert breaker.open, "the first five of the new run"


def test_a_probe_that_was_not_sent_stays_due():
    breaker = Breaker(down=True)
    breaker.start_run()
    breaker.start_run()
    assert (breaker.open, breaker.half_open) == (False, True)


OVERLOADS = [(LIMITED, True), (DOWN, True), (ApiError(status=403), False), (ApiError(status=404), False)]


@pytest.mark.parametrize(("failure", "overload"), OVERLOADS)
def test_a_limit_and_an_outage_are_overloads(failure, overload):
    assert is_overload(failure) is overload


def test_concurrency_is_halved_by_an_overload_and_recovers_by_one_a_round():
    concurrency = ConcurrencyLimit(32)
    concurrency.on_overload(started_s=1.0, now_s=2.0)
    assert concurrency.limit == 16
    for _ in range(17):
        concurrency.on_success()
    assert 16.9 < concurrency.limit < 17.1
    for _ in range(10_000):
        concurrency.on_success()
    assert (concurrency.limit, concurrency.learned) == (32, None)


def test_simultaneous_overloads_halve_concurrency_once():
    concurrency = ConcurrencyLimit(32)
    for _ in range(20):
        concurrency.on_overload(started_s=1.0, now_s=2.0)
    assert concurrency.limit == 16
    concurrency.on_overload(started_s=2.0, now_s=3.0)
    assert concurrency.limit == 8


def test_concurrency_never_falls_below_one():
    concurrency = ConcurrencyLimit(3)
    for second in range(10):
        concurrency.on_overload(started_s=second, now_s=second)
    assert (concurrency.limit, concurrency.learned) == (1, 1)


@pytest.mark.parametrize(("learned", "limit"), [(None, 8), (4.5, 4.5), (0.1, 1), (100, 8)])
def test_learned_concurrency_is_used_up_to_the_ceiling(learned, limit):
    assert ConcurrencyLimit(8, learned).limit == limit


def hinted(status, seconds, **kwargs):
    return ApiError(status=status, retry_after=timedelta(seconds=seconds), **kwargs)


def test_a_hint_blocks_all_requests_until_its_time_and_then_requires_a_probe():
    server_backoff = ServerBackoff()
    assert (server_backoff.until_s, server_backoff.status, server_backoff.code, server_backoff.half_open) == (
        -math.inf,
        None,
        None,
        False,
    )
    server_backoff.record(hinted(429, 30, code="slow_down"), now_s=100.0)
    assert (server_backoff.until_s, server_backoff.status, server_backoff.code, server_backoff.half_open) == (
        130,
        429,
        "slow_down",
        True,
    )
    server_backoff.record(None, now_s=131.0)
    assert not server_backoff.half_open


def test_an_answer_to_an_earlier_request_is_not_the_probe():
    server_backoff = ServerBackoff()
    server_backoff.record(hinted(503, 30), now_s=100.0)
    server_backoff.record(None, now_s=129.9)
    assert server_backoff.half_open


def test_an_answer_at_the_exact_time_is_the_probe():
    server_backoff = ServerBackoff()
    server_backoff.record(hinted(503, 30), now_s=100.0)
    server_backoff.record(None, now_s=130.0)
    assert not server_backoff.half_open


@pytest.mark.parametrize("failure", [hinted(500, 30), hinted(403, 30), hinted(404, 30), LIMITED, DOWN])
def test_only_a_hint_on_429_or_503_blocks_all_requests(failure):
    server_backoff = ServerBackoff()
    server_backoff.record(failure, now_s=100.0)
    assert (server_backoff.until_s, server_backoff.half_open) == (-math.inf, False)


def test_a_shorter_hint_does_not_shorten_the_wait_and_a_longer_one_lengthens_it():
    server_backoff = ServerBackoff()
    for seconds, until_s, status in [(30, 130, 429), (10, 130, 429), (60, 160, 503)]:
        server_backoff.record(hinted(status if seconds != 10 else 503, seconds), now_s=100.0)
        assert (server_backoff.until_s, server_backoff.status) == (until_s, status)


def test_the_first_of_two_hints_for_the_same_time_wins():
    server_backoff = ServerBackoff()
    server_backoff.record(hinted(429, 30, code="first"), now_s=100.0)
    server_backoff.record(hinted(503, 20, code="second"), now_s=110.0)
    assert (server_backoff.until_s, server_backoff.status, server_backoff.code) == (130, 429, "first")


def test_a_failed_probe_is_followed_by_another_probe():
    server_backoff = ServerBackoff()
    server_backoff.record(hinted(429, 1), now_s=100.0)
    server_backoff.record(DOWN, now_s=102.0)
    assert server_backoff.half_open


@pytest.mark.parametrize(("firsts", "granted"), [(0, 3), (1, 3), (69, 3), (70, 4), (10_000, 997)])
def test_the_budget_is_a_tenth_of_the_first_attempts_and_at_least_three(firsts, granted):
    budget = RetryBudget()
    for _ in range(firsts):
        budget.record_first()
    assert budget.remaining == granted
    assert [budget.take() for _ in range(granted + 2)] == [True] * granted + [False] * 2
    assert budget.remaining == 0


@given(st.lists(st.booleans(), max_size=400))
def test_the_budget_is_never_overdrawn(steps):
    budget, firsts, taken = RetryBudget(), 0, 0
    for is_first in steps:
        if is_first:
            budget.record_first()
            firsts += 1
        else:
            taken += budget.take()
        assert taken <= max(3, firsts / 10)


DOWN_AT_THE_END = {
    "nothing was sent": ([], False),
    "two failures": ([DOWN] * 2, False),
    "three failures and nothing else": ([DOWN] * 3, True),
    "three failures and an answer": ([DOWN, LIMITED, DOWN, DOWN], False),
    "an answer long ago": ([None, *[DOWN] * 17], False),
    "it is open": ([DOWN] * 5, True),
}


@pytest.mark.parametrize(("outcomes", "down"), DOWN_AT_THE_END.values(), ids=DOWN_AT_THE_END)
def test_the_next_run_begins_with_a_probe_if_all_requests_failed(outcomes, down):
    breaker = Breaker()
    for outcome in outcomes:
        breaker.record(outcome)
    assert breaker.down is down
    breaker.start_run()
    assert breaker.half_open is down


def test_concurrency_drops_after_a_too_large_answer():
    concurrency = ConcurrencyLimit(32)
    concurrency.on_large_answer()
    assert concurrency.limit == 5
    concurrency.on_overload(started_s=1.0, now_s=2.0)
    concurrency.on_large_answer()
    assert concurrency.limit == 2.5


def test_a_throttle_factor_lowers_the_concurrency_ceiling_until_it_ends():
    concurrency = ConcurrencyLimit(32)
    concurrency.set_throttle_factor(0.25)
    assert (concurrency.ceiling, concurrency.limit, concurrency.learned) == (8, 8, None)
    for _ in range(1000):
        concurrency.on_success()
    assert concurrency.limit == 8
    concurrency.set_throttle_factor(0.5)
    assert (concurrency.ceiling, concurrency.limit) == (16, 16)
    concurrency.set_throttle_factor(1.0)
    assert (concurrency.ceiling, concurrency.limit) == (32, 32)


def test_the_end_of_a_throttle_factor_does_not_raise_concurrency_after_an_overload():
    concurrency = ConcurrencyLimit(32, 6.0)
    concurrency.set_throttle_factor(0.5)
    assert (concurrency.ceiling, concurrency.limit, concurrency.learned) == (16, 6, 6)
    concurrency.set_throttle_factor(0.125)
    assert (concurrency.ceiling, concurrency.limit) == (4, 4)
    concurrency.set_throttle_factor(0.0001)
    assert (concurrency.ceiling, concurrency.limit) == (1, 1)


def test_a_server_backoff_keeps_a_code_from_the_type():
    server_backoff = ServerBackoff()
    server_backoff.record(hinted(429, 30, type="insufficient_quota"), now_s=0.0)
    assert server_backoff.code == "insufficient_quota"


def test_the_parts_of_concurrency_are_together_at_most_the_whole():
    for whole, parts in ((32, [1 / 8] * 8), (30, [1 / 3] * 3), (10, [0.7, 0.3]), (100, [0.07, 0.93]), (7, [0.5, 0.5])):
        limits = [ConcurrencyLimit(whole) for _ in parts]
        for limit, part in zip(limits, parts, strict=True):
            limit.set_part(part)
        assert whole - len(parts) < sum(limit.ceiling for limit in limits) <= whole
        assert [limit.limit for limit in limits] == [limit.ceiling for limit in limits]


def test_a_part_of_concurrency_is_at_least_one_request():
    concurrency = ConcurrencyLimit(4)
    concurrency.set_part(0.01)
    assert (concurrency.ceiling, concurrency.limit) == (1, 1)


def test_a_part_of_concurrency_is_multiplied_with_the_throttle_factor_and_bounded():
    concurrency = ConcurrencyLimit(512)
    concurrency.set_throttle_factor(0.5)
    concurrency.set_part(0.5)
    assert concurrency.ceiling == 128
    concurrency.set_part(0.5, most=64)
    assert (concurrency.ceiling, concurrency.learned) == (64, None)
    concurrency.set_throttle_factor(1.0)
    concurrency.set_part(1.0)
    assert (concurrency.ceiling, concurrency.limit) == (512, 512)


def test_learned_concurrency_is_divided_and_stored_as_the_whole():
    concurrency = ConcurrencyLimit(64, learned=24.0)
    concurrency.set_part(0.25)
    assert (concurrency.ceiling, concurrency.limit, concurrency.learned) == (16, 6, 24)
    concurrency.set_part(0.5)
    assert (concurrency.limit, concurrency.learned) == (12, 24)


@pytest.mark.parametrize("parts", [2, 8, 50])
def test_the_retry_budgets_of_the_parts_of_a_run_are_together_like_one(parts):
    whole, budgets = RetryBudget(), [RetryBudget(1 / parts) for _ in range(parts)]
    for number in range(10_000):
        whole.record_first()
        budgets[number % parts].record_first()
    together = sum(budget.remaining for budget in budgets)
    assert whole.remaining - parts <= together <= whole.remaining


def test_a_small_part_of_a_run_may_retry_once():
    budget = RetryBudget(0.01)
    assert [budget.take(), budget.take()] == [True, False]


def test_the_breaker_of_another_process_opens_ours_until_the_next_run():
    breaker = Breaker()
    breaker.trip()
    assert (breaker.open, breaker.opened_here, breaker.down) == (True, False, True)
    breaker.trip()
    assert not breaker.opened_here
    breaker.start_run()
    assert (breaker.open, breaker.half_open, breaker.opened_here) == (False, True, False)


def test_a_breaker_that_was_open_already_has_been_opened_here():
    breaker = Breaker()
    for _ in range(5):
        breaker.record(DOWN)
    breaker.trip()
    assert breaker.opened_here
