from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import NOW

from monitor.model import ChannelState
from monitor.notifications.channel_state import MAX_BACKOFF, is_failing, next_state
from monitor.notifications.channels import SendOutcome, SendResult

MINUTE = timedelta(minutes=1)
RETRY = SendResult(outcome=SendOutcome.RETRY, reason="HTTP 503")


def retry_after(**span):
    return SendResult(outcome=SendOutcome.RETRY, reason="HTTP 429", retry_after=timedelta(**span))


BACKOFFS = [
    ("the first failure waits half a minute", RETRY, 0, 1, timedelta(seconds=30)),
    ("jitter takes away half at the most", RETRY, 0, 0, timedelta(seconds=15)),
    ("each failure doubles it", RETRY, 2, 1, timedelta(minutes=2)),
    ("the fifth", RETRY, 4, 1, timedelta(minutes=8)),
    ("up to a quarter of an hour", RETRY, 5, 1, timedelta(minutes=15)),
    ("however many there were", RETRY, 10_000, 1, timedelta(minutes=15)),
    ("a longer hint is obeyed", retry_after(minutes=40), 0, 1, timedelta(minutes=40)),
    ("up to an hour", retry_after(days=40), 0, 1, timedelta(hours=1)),
    ("a shorter hint does not hurry", retry_after(seconds=1), 0, 1, timedelta(seconds=30)),
]


@pytest.mark.parametrize(
    ("result", "failures", "rand", "wait"), [w[1:] for w in BACKOFFS], ids=[w[0] for w in BACKOFFS]
)
def test_backoff_after_a_failure(result, failures, rand, wait):
    before = ChannelState(name="oncall", failures=failures, failing_since=NOW - MINUTE if failures else None)
    state = next_state(before, result, fingerprint="f", now=NOW, rand=rand)
    assert (state.blocked_until, state.failures, state.last_error) == (NOW + wait, failures + 1, result.reason)
    assert state.failing_since == (NOW - MINUTE if failures else NOW)
    assert state.suspended_at is None


def test_a_refusal_of_the_sender_suspends_the_channel_and_remembers_its_settings():
    suspended = SendResult(outcome=SendOutcome.SUSPENDED, reason="HTTP 401")
    state = next_state(ChannelState(name="oncall"), suspended, fingerprint="f1", now=NOW, rand=1)
    assert (state.suspended_at, state.fingerprint, state.blocked_until) == (NOW, "f1", None)
    later = next_state(state, suspended, fingerprint="f2", now=NOW + MINUTE, rand=1)
    assert (later.suspended_at, later.fingerprint, later.failures) == (NOW, "f2", 2)


@pytest.mark.parametrize("outcome", [SendOutcome.DELIVERED, SendOutcome.REFUSED])
def test_a_receiver_that_answered_is_healthy(outcome):
    unhealthy = ChannelState(
        name="oncall", failures=7, failing_since=NOW, blocked_until=NOW, suspended_at=NOW, last_error="x"
    )
    answered = SendResult(outcome=outcome, reason="…")
    assert next_state(unhealthy, answered, fingerprint="f", now=NOW, rand=1) == ChannelState(name="oncall")


FAILING = [
    ("well", {}, False),
    ("failed just now", {"failing_since": NOW, "failures": 1}, False),
    ("for a quarter of an hour", {"failing_since": NOW - timedelta(minutes=15), "failures": 5}, True),
    ("suspended", {"suspended_at": NOW, "failing_since": NOW}, True),
]


@pytest.mark.parametrize(("fields", "failing"), [f[1:] for f in FAILING], ids=[f[0] for f in FAILING])
def test_when_a_channel_counts_as_failing(fields, failing):
    assert is_failing(ChannelState(name="oncall", **fields), now=NOW) is failing


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 7200))
def test_the_wait_is_between_retry_after_and_the_longest_backoff(rands, hint_s):
    state = ChannelState(name="oncall")
    for rand in rands:
        state = next_state(state, retry_after(seconds=hint_s), fingerprint=None, now=NOW, rand=rand)
        wait = state.blocked_until - NOW
        assert min(timedelta(seconds=hint_s), timedelta(hours=1)) <= wait <= max(MAX_BACKOFF, timedelta(hours=1))
