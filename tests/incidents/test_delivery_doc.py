"""The tables about delivery in docs/incidents.md, compared with the code."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from support.samples import NOW, message

from monitor.model import ChannelState
from monitor.model.http import ApiError, CallResult
from monitor.notifications.batching import coalesce
from monitor.notifications.channel_state import FAILING_AFTER, MAX_BACKOFF, next_state
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.channels.http_post import classify_response
from monitor.notifications.messages import MessageKind
from monitor.notifications.outbox import GIVE_UP_AFTER

DOCUMENT = (Path(__file__).parents[2] / "docs" / "incidents.md").read_text(encoding="utf-8")
_, DELIVERY = DOCUMENT.split("\n## Delivery\n")


def rows(heading):
    _, section = DELIVERY.split(f"\n### {heading}\n")
    table = re.findall(r"^\|(.*)\|$", section.partition("\n#")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in table[2:]]


def queue(kinds):
    return [
        message(1, kind=MessageKind(kind), subject="it", title="it", at=NOW + timedelta(minutes=10 * at))
        for at, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(("undelivered", "sent", "then"), rows("Superseded messages"))
def test_undelivered_messages_are_superseded_as_documented(undelivered, sent, then):
    messages = queue(undelivered.split(", "))
    kept, message_sent = coalesce(messages)
    kind, _, story = sent.partition(": ")
    assert message_sent.kind.value == kind
    assert not story or message_sent.title == f"it: {story}"
    pending = messages[kept + 1 :]
    assert [each.kind.value for each in pending] == [each for each in [then] if each]


def answered(status):
    return classify_response(CallResult(error=ApiError(status=status)) if status >= 300 else CallResult())


def test_statuses_affect_a_channel_as_documented():
    taken, waits, suspended, refused = (row[0] for row in rows("When a channel fails"))
    assert "2xx" in taken
    for status in (429, 500, 503, 302):
        assert answered(status).outcome is SendOutcome.RETRY
    assert all(word in waits for word in ("429", "5xx", "redirect"))
    for text, outcome in ((suspended, SendOutcome.SUSPENDED), (refused, SendOutcome.REFUSED)):
        statuses = [int(each) for each in re.findall(r"\d{3}", text)]
        assert statuses
        assert {answered(each).outcome for each in statuses} == {outcome}


def test_backoff_is_as_documented():
    (_, waits, *_), state = rows("When a channel fails")[1], ChannelState(name="oncall")
    said = []
    for _ in range(10):
        failed = SendResult(outcome=SendOutcome.RETRY, reason="HTTP 503")
        state = next_state(state, failed, fingerprint=None, now=NOW, rand=1.0)
        said.append(state.blocked_until - NOW)
    assert said[:3] == [timedelta(seconds=30), timedelta(minutes=1), timedelta(minutes=2)]
    assert said[-1] == MAX_BACKOFF == timedelta(minutes=15)
    assert "30 s, 1 min, 2 min … 15 min" in waits
    assert f"out of reach for {FAILING_AFTER.total_seconds() / 60:.0f} minutes" in DELIVERY
    assert timedelta(days=1) == GIVE_UP_AFTER
    assert "waited for a day" in DELIVERY
