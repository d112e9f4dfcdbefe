from datetime import timedelta

import pytest

from monitor.model.http import DEADLINE_EXCEEDED, ApiError, CallResult, NetworkFault, Reply
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.http_post import classify_response

OUTCOMES = [
    *[(str(code), ApiError(status=code), SendOutcome.SUSPENDED, f"HTTP {code}") for code in (401, 403, 404, 410)],
    *[(f"{status}", ApiError(status=status), SendOutcome.REFUSED, f"HTTP {status}") for status in (400, 413, 422)],
    *[(f"{status}", ApiError(status=status), SendOutcome.RETRY, f"HTTP {status}") for status in (302, 408, 429, 500)],
    ("no name", ApiError(status=None, network=NetworkFault.DNS), SendOutcome.RETRY, "no answer (dns)"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "outcome", "reason"), [e[1:] for e in OUTCOMES], ids=[e[0] for e in OUTCOMES])
def test_what_http_answers_mean(error, outcome, reason):
    assert classify_response(CallResult(error=error)) == SendResult(outcome=outcome, reason=reason)


FAULTS = {
    **{fault: (fault, True) for fault in (NetworkFault.DNS, NetworkFault.REFUSED, NetworkFault.TLS)},
    **{
        fault: (fault, False)
        for fault in (NetworkFault.TIMEOUT, NetworkFault.RESET, NetworkFault.PROTOCOL, NetworkFault.TOO_LARGE)
    },
    "our own deadline": (None, False),
}


@pytest.mark.parametrize(("fault", "certain"), FAULTS.values(), ids=FAULTS)
def test_only_a_failure_before_sending_proves_that_nothing_was_delivered(fault, certain):
    code = None if fault else DEADLINE_EXCEEDED
    taken = classify_response(CallResult(error=ApiError(status=None, code=code, network=fault)))
    assert (taken.outcome, taken.certain) == (SendOutcome.RETRY, certain)


def test_any_2xx_is_a_delivery():
    assert classify_response(CallResult(reply=Reply(status=204, headers={}, body=b""))).outcome is SendOutcome.DELIVERED


def test_retry_after_is_returned():
    hint = timedelta(minutes=3)
    assert classify_response(CallResult(error=ApiError(status=429, retry_after=hint))).retry_after == hint


def test_known_answers_of_receivers_are_explained_and_never_quoted():
    explanations = {"no_service": "the webhook is gone"}
    assert classify_response(CallResult(error=ApiError(status=404, message="no_service")), explanations).reason == (
        "HTTP 404: the webhook is gone"
    )
    assert (
        classify_response(CallResult(error=ApiError(status=404, message="no_service of T0K3N")), explanations).reason
        == "HTTP 404"
    )
