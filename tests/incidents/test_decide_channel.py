from dataclasses import replace
from datetime import timedelta

import pytest
from support.samples import NOW, incident

from monitor.incidents.decide import Action, ChannelEvent, DecisionReason, decide_channel, other_channels
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, IncidentState

RULE = DEFAULT_RULES[Cause.CHANNEL_FAILING]
HOUR = timedelta(hours=1)
FAILED, DELIVERED, REMOVED = ChannelEvent.FAILED, ChannelEvent.DELIVERED, ChannelEvent.REMOVED
OPEN = incident(cause=Cause.CHANNEL_FAILING, target="channel:oncall", last_message_at=NOW - HOUR)
ACKNOWLEDGED = replace(OPEN, state=IncidentState.ACKNOWLEDGED, last_message_at=NOW - 9 * HOUR)
ALREADY_RESOLVED = replace(OPEN, state=IncidentState.RESOLVED, resolved_at=NOW - HOUR)

DECISIONS = [
    ("the first failure", None, FAILED, Action.OPEN, DecisionReason.UNDELIVERABLE),
    ("another while it is open", OPEN, FAILED, Action.CONTINUE, DecisionReason.STILL_OPEN),
    ("another after four hours", replace(OPEN, last_message_at=NOW - 4 * HOUR), FAILED, Action.REMIND,
     DecisionReason.REMINDER_DUE),
    ("acknowledged, hours later", ACKNOWLEDGED, FAILED, Action.CONTINUE, DecisionReason.STILL_OPEN),
    ("it fails again long after", ALREADY_RESOLVED, FAILED, Action.OPEN, DecisionReason.UNDELIVERABLE),
    ("it fails again soon", replace(ALREADY_RESOLVED, resolved_at=NOW - timedelta(minutes=5)), FAILED, Action.REOPEN,
     DecisionReason.RECURRED),
    ("a delivery resolves it", OPEN, DELIVERED, Action.RESOLVE, DecisionReason.DELIVERED),
    ("a delivery resolves an acknowledged one", ACKNOWLEDGED, DELIVERED, Action.RESOLVE, DecisionReason.DELIVERED),
    ("it is removed from the configuration", OPEN, REMOVED, Action.RESOLVE, DecisionReason.NOT_CONFIGURED),
    ("a delivery without an incident", None, DELIVERED, Action.NOTHING, DecisionReason.NO_EVIDENCE),
    ("a delivery after its end", ALREADY_RESOLVED, DELIVERED, Action.NOTHING, DecisionReason.NO_EVIDENCE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "channel_event", "action", "reason"), [d[1:] for d in DECISIONS], ids=[d[0] for d in DECISIONS]
)
def test_decisions_about_a_channel(state, channel_event, action, reason):
    decision = decide_channel(RULE, state, channel_event, now=NOW)
    assert (decision.action, decision.reason, decision.cause) == (action, reason, Cause.CHANNEL_FAILING)


def test_of_a_rule_only_the_reminders_apply_to_channels():
    slow = replace(RULE, runs=3, of=5, resolve_after=4, hold_for=HOUR, repeat_interval=timedelta(minutes=1))
    assert decide_channel(slow, None, FAILED, now=NOW).action is Action.OPEN
    assert decide_channel(slow, OPEN, FAILED, now=NOW).action is Action.REMIND
    assert decide_channel(slow, OPEN, DELIVERED, now=NOW).action is Action.RESOLVE


NOTIFIED = [
    ("those routed, without the one that fails", ("a", "b"), ("a", "b", "c"), {"a"}, ("b",)),
    ("all routed ones fail: any other", ("a",), ("a", "b", "c"), {"a"}, ("b", "c")),
    ("all fail: the log", ("a",), ("a", "b"), {"a", "b"}, ("log",)),
    ("the only one fails: the log", ("a",), ("a",), {"a"}, ("log",)),
    ("routed to the log", ("log",), ("a",), {"a"}, ("log",)),
    ("a channel called log fails too", ("log",), ("log",), {"log"}, ()),
]


@pytest.mark.parametrize(
    ("routed", "configured", "failing", "notified"), [t[1:] for t in NOTIFIED], ids=[t[0] for t in NOTIFIED]
)
def test_which_channels_are_notified_of_a_failing_one(routed, configured, failing, notified):
    assert other_channels(routed, configured, failing=failing) == notified
