from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.client.retry import (
    MAX_BOUNDED_ATTEMPTS,
    RETRY_TABLE,
    FailureKind,
    RetryAction,
    RetryPolicy,
    RetryReason,
    decide_retry,
    is_transient,
)
from monitor.model.http import ApiError, NetworkFault, Operation

READ, POLL, WRITE, CLOSE, TOKEN = (
    Operation.READ, Operation.POLL, Operation.WRITE, Operation.CLOSE, Operation.TOKEN
)  # fmt: skip


def ask(failure, *, operation=READ, attempt=1, max_attempts=5, budget_left=9, now_s=0.0, deadline_s=1000.0, rand=0.5):
    return decide_retry(
        failure,
        attempt=attempt,
        max_attempts=max_attempts,
        budget_left=budget_left,
        operation=operation,
        now_s=now_s,
        deadline_s=deadline_s,
        rand=rand,
    )


def status(code, /, **kwargs):
    return ApiError(status=code, **kwargs)


def network(fault):
    return ApiError(status=None, network=fault)


RETRIED = [408, 429, 500, 502, 503, 504, 507, 520, 599]
FORBIDDEN = [200, 301, 302, 307, 308, 304, 400, 401, 403, 404, 405, 409, 410, 413, 422, 451, 499, 501, 505, 600, 999]


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("code", RETRIED)
def test_a_transient_status_is_retried_for_every_operation(code, operation):
    decision = ask(status(code), operation=operation)
    assert (decision.action, decision.reason) == (RetryAction.RETRY, RetryReason.TRANSIENT)


@pytest.mark.parametrize("code", FORBIDDEN)
def test_a_permanent_status_is_never_retried_even_if_the_body_says_retryable(code):
    decision = ask(status(code, retryable=True, retry_after=timedelta(seconds=1)))
    assert (decision.action, decision.reason) == (RetryAction.GIVE_UP, RetryReason.STATUS_FORBIDS)


READ_FAULTS = {
    NetworkFault.DNS: True,
    NetworkFault.REFUSED: True,
    NetworkFault.TIMEOUT: True,
    NetworkFault.RESET: True,
    NetworkFault.PROTOCOL: True,
    NetworkFault.TLS: False,
    NetworkFault.TOO_LARGE: False,
}


@pytest.mark.parametrize(("fault", "retried"), READ_FAULTS.items())
@pytest.mark.parametrize("operation", [READ, TOKEN, POLL, CLOSE])
def test_a_read_is_retried_on_transient_network_faults(fault, retried, operation):
    decision = ask(network(fault), operation=operation)
    assert (decision.action is RetryAction.RETRY) == retried
    assert decision.reason is (RetryReason.TRANSIENT if retried else RetryReason.STATUS_FORBIDS)


@pytest.mark.parametrize("fault", [NetworkFault.TIMEOUT, NetworkFault.RESET, NetworkFault.PROTOCOL])
def test_a_write_that_may_have_succeeded_is_not_repeated(fault):
    decision = ask(network(fault), operation=WRITE)
    assert (decision.action, decision.reason) == (RetryAction.GIVE_UP, RetryReason.UNSAFE_TO_REPEAT)


@pytest.mark.parametrize("fault", [NetworkFault.DNS, NetworkFault.REFUSED])
def test_a_write_that_was_never_sent_is_repeated(fault):
    assert ask(network(fault), operation=WRITE).action is RetryAction.RETRY


SPENT = {
    "Gloo's code": status(429, code="SPENDING_LIMIT_EXCEEDED", retryable=True),
    "in lower case": status(429, code="spending_limit_exceeded"),
    "OpenAI's code": status(429, code="insufficient_quota"),
    "OpenAI's type": status(429, code="x", type="insufficient_quota"),
    "payment required": status(402),
}


@pytest.mark.parametrize("failure", SPENT.values(), ids=SPENT)
def test_a_spending_limit_is_not_retried(failure):
    assert ask(failure).reason is RetryReason.SPENDING_LIMIT


OTHER_LIMITS = [status(429), status(429, code="too_many_requests"), status(500, code="insufficient_quota")]


@pytest.mark.parametrize("failure", OTHER_LIMITS)
def test_other_limits_are_not_mistaken_for_a_spending_limit(failure):
    assert ask(failure).reason is RetryReason.TRANSIENT


def test_the_api_may_veto_a_retry():
    assert ask(status(503, retryable=False)).reason is RetryReason.VETOED


def test_a_hint_replaces_the_backoff():
    decision = ask(status(429, retry_after=timedelta(seconds=7)))
    assert (decision.action, decision.reason, decision.wait_s) == (RetryAction.RETRY, RetryReason.RETRY_AFTER, 7)


@pytest.mark.parametrize(("deadline_s", "action"), [(107.0, RetryAction.GIVE_UP), (107.1, RetryAction.RETRY)])
def test_no_wait_ends_at_or_past_the_deadline(deadline_s, action):
    decision = ask(status(429, retry_after=timedelta(seconds=7)), now_s=100.0, deadline_s=deadline_s)
    assert decision.action is action
    assert (decision.reason is RetryReason.DEADLINE_EXCEEDED) == (action is RetryAction.GIVE_UP)


@pytest.mark.parametrize(
    ("attempt", "action"), [(1, RetryAction.RETRY), (4, RetryAction.RETRY), (5, RetryAction.GIVE_UP)]
)
def test_attempts_are_bounded(attempt, action):
    decision = ask(status(503), attempt=attempt)
    assert decision.action is action
    assert (decision.reason is RetryReason.ATTEMPTS_EXHAUSTED) == (action is RetryAction.GIVE_UP)


BOUNDS = [
    (WRITE, MAX_BOUNDED_ATTEMPTS - 1, True),
    (WRITE, MAX_BOUNDED_ATTEMPTS, False),
    (CLOSE, MAX_BOUNDED_ATTEMPTS, False),
    (POLL, 900, True),
]


@pytest.mark.parametrize(("operation", "attempt", "retried"), BOUNDS)
def test_writes_have_their_own_bounds_and_polling_has_its_deadline(operation, attempt, retried):
    decision = ask(status(503), operation=operation, attempt=attempt, max_attempts=1000 if operation is WRITE else 5)
    assert (decision.action is RetryAction.RETRY) is retried
    assert ask(status(503), operation=POLL, attempt=900, deadline_s=0.1).reason is RetryReason.DEADLINE_EXCEEDED


MANY = 50
MOST_ATTEMPTS = {READ: 5, TOKEN: 5, POLL: MANY, WRITE: MAX_BOUNDED_ATTEMPTS, CLOSE: MAX_BOUNDED_ATTEMPTS}


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("failure", [status(429), status(503), network(NetworkFault.DNS), network(NetworkFault.RESET)])
def test_each_operation_has_its_bound_for_any_transient_failure(operation, failure):
    retried = [ask(failure, operation=operation, attempt=n).action is RetryAction.RETRY for n in range(1, MANY + 1)]
    unsafe = operation is WRITE and failure.network is NetworkFault.RESET
    attempts = 1 if unsafe else MOST_ATTEMPTS[operation]
    assert retried == [n < attempts or attempts == MANY for n in range(1, MANY + 1)]


def test_a_write_never_exceeds_the_clients_attempts():
    assert ask(status(503), operation=WRITE, attempt=2, max_attempts=2).reason is RetryReason.ATTEMPTS_EXHAUSTED


@pytest.mark.parametrize(("budget_left", "action"), [(0, RetryAction.GIVE_UP), (1, RetryAction.RETRY)])
def test_the_runs_budget_bounds_the_retries_of_all_calls(budget_left, action):
    decision = ask(status(503), budget_left=budget_left)
    assert decision.action is action
    assert (decision.reason is RetryReason.RETRY_BUDGET_EXHAUSTED) == (action is RetryAction.GIVE_UP)


def test_every_class_of_operation_has_a_rule_for_every_kind_of_failure():
    assert {operation: set(row) for operation, row in RETRY_TABLE.items()} == {
        each: set(FailureKind) for each in Operation
    }
    assert {row[FailureKind.PERMANENT] for row in RETRY_TABLE.values()} == {RetryPolicy.NO}


@pytest.mark.parametrize(
    ("attempt", "ceiling_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (900, 30)]
)
def test_the_backoff_doubles_up_to_thirty_seconds_with_full_jitter(attempt, ceiling_s):
    waits = [ask(status(503), attempt=attempt, max_attempts=1000, rand=rand).wait_s for rand in (0.0, 0.5, 1.0)]
    assert waits == [0, ceiling_s / 2, ceiling_s]


TRANSIENT = [
    (status(503), True),
    (status(401), False),
    (network(NetworkFault.TLS), False),
    (ApiError(status=None), False),
]


@pytest.mark.parametrize(("failure", "transient"), TRANSIENT)
def test_transient_failures_are_recognised(failure, transient):
    assert is_transient(failure) is transient


@given(
    st.builds(
        ApiError,
        status=st.none() | st.integers(100, 999),
        network=st.none() | st.sampled_from(NetworkFault),
        retryable=st.none() | st.booleans(),
        retry_after=st.none() | st.timedeltas(timedelta(0), timedelta(hours=1)),
    ),
    st.sampled_from(Operation),
    st.integers(1, 10),
    st.floats(0, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_a_retry_is_always_within_its_bounds(failure, operation, attempt, deadline_s, rand):
    decision = ask(failure, operation=operation, attempt=attempt, deadline_s=deadline_s, rand=rand)
    assert decision.wait_s >= 0
    if decision.action is RetryAction.RETRY:
        assert attempt < {WRITE: MAX_BOUNDED_ATTEMPTS, CLOSE: MAX_BOUNDED_ATTEMPTS, POLL: 11}.get(operation, 5)
        assert decision.wait_s < deadline_s
        assert failure.retryable is not False
    else:
        assert decision.wait_s == 0
