from datetime import timedelta

import pytest

from monitor.model.http import PAST_DEADLINE, Answer, ApiError, NetworkFault, Reply
from monitor.notifications.channels import Ending, Verdict
from monitor.notifications.channels.http_post import verdict

ENDINGS = [
    *[(f"{status}", ApiError(status=status), Ending.PARKED, f"HTTP {status}") for status in (401, 403, 404, 410)],
    *[(f"{status}", ApiError(status=status), Ending.REFUSED, f"HTTP {status}") for status in (400, 413, 422)],
    *[(f"{status}", ApiError(status=status), Ending.RETRY, f"HTTP {status}") for status in (302, 408, 429, 500)],
    ("no name", ApiError(status=None, network=NetworkFault.DNS), Ending.RETRY, "no answer (dns)"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "ending", "reason"), [e[1:] for e in ENDINGS], ids=[e[0] for e in ENDINGS])
def test_how_an_answer_is_taken(error, ending, reason):
    assert verdict(Answer(error=error)) == Verdict(ending=ending, reason=reason)


FAULTS = {
    **{fault: (fault, True) for fault in (NetworkFault.DNS, NetworkFault.REFUSED, NetworkFault.TLS)},
    **{
        fault: (fault, False)
        for fault in (NetworkFault.TIMEOUT, NetworkFault.RESET, NetworkFault.PROTOCOL, NetworkFault.TOO_LARGE)
    },
    "our own deadline": (None, False),
}


@pytest.mark.parametrize(("fault", "certain"), FAULTS.values(), ids=FAULTS)
def test_only_what_ends_before_the_message_is_sent_shows_that_it_was_not_taken(fault, certain):
    code = None if fault else PAST_DEADLINE
    taken = verdict(Answer(error=ApiError(status=None, code=code, network=fault)))
    assert (taken.ending, taken.certain) == (Ending.RETRY, certain)


def test_any_2xx_is_a_delivery():
    assert verdict(Answer(reply=Reply(status=204, headers={}, body=b""))).ending is Ending.DELIVERED


def test_a_hint_to_come_back_is_handed_on():
    hint = timedelta(minutes=3)
    assert verdict(Answer(error=ApiError(status=429, retry_after=hint))).retry_after == hint


def test_a_receivers_words_are_explained_when_they_are_known_and_never_repeated():
    known = {"no_service": "the webhook is gone"}
    assert verdict(Answer(error=ApiError(status=404, message="no_service")), known).reason == (
        "HTTP 404: the webhook is gone"
    )
    assert verdict(Answer(error=ApiError(status=404, message="no_service of T0K3N")), known).reason == "HTTP 404"
