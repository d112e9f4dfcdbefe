"""Silences with real runs and a real database: what is silenced, when it is sent, and that nothing is lost."""

import itertools
import re
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from incidents.test_evaluate import AGE_LIMITS, Site
from sqlalchemy import select
from support.samples import NOW
from support.scale import examples

from monitor.database.engine import reading, writing
from monitor.database.tables import notifications
from monitor.incidents import acknowledge as handling
from monitor.incidents import silence_store as silences
from monitor.incidents import store as incidents
from monitor.incidents.channel_failures import ChannelFailures
from monitor.incidents.decide import Action, DecisionReason, OperatorAction
from monitor.incidents.evaluate import IncidentEvaluator
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.incidents.silence_expiry import SilenceExpiry
from monitor.model import Cause, Evidence, IncidentState, RunStatus
from monitor.notifications.messages import RunFacts
from monitor.runs import store as runs

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
FAILED, REVOKED = Cause.ITEMS_FAILED, Cause.UNAUTHORIZED
TOO_MUCH = Evidence(cause=Cause.SPENDING_LIMIT, count=3, breakdown={"402": 3})
OPEN, ACKNOWLEDGED, RESOLVED = IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED


class Night(Site):
    """A target's evaluator, its silences, and their expiry."""

    def silence(self, *, lasts=4 * HOUR, comment="", **matchers):
        matchers = {name: (pattern,) for name, pattern in matchers.items()} or {"target": ("gloo",)}
        with writing(self.engine) as conn:
            made = silences.add(
                conn, matchers=matchers, starts_at=self.now, ends_at=self.now + lasts, comment=comment, author="ana",
                now=self.now,
            )  # fmt: skip
        return made.id

    def expire(self, silence_id, by="bo"):
        with writing(self.engine) as conn:
            silences.expire(conn, silence_id, by=by, now=self.now)

    @property
    def silence_expiry(self):
        return SilenceExpiry(environment="test", route=self._route, channel_router=lambda _: lambda _: ("audit",))

    def notify_expired(self):
        with writing(self.engine) as conn:
            return self.silence_expiry.notify_expired(conn, now=self.now)

    def ack(self, incident_id=1):
        with writing(self.engine) as conn:
            return handling.acknowledge(conn, incident_id, operator_action=OperatorAction(by="cem"), now=self.now)

    @property
    def events(self):
        with reading(self.engine) as conn:
            return [(each.kind, each.reason) for each in incidents.events(conn, self.incident.id)]


@pytest.fixture
def night(engine):
    return Night(engine)


def test_a_silenced_opening_is_recorded_with_its_reason_and_sent_nowhere(night):
    number = night.silence(comment="deploy")
    night.put("a", "b")
    (change,) = night.run().changes
    assert (change.decision.action, change.decision.silence_id) == (Action.OPEN, number)
    opened = night.incident
    assert (opened.state, opened.silence_id, opened.channels, opened.last_message_at) == (OPEN, number, (), None)
    assert opened.member_count == 2
    assert night.events[1:] == [
        ("opened", "one run with evidence is enough"),
        ("silenced", "by silence 1 until 2026-03-01 16:00 UTC (deploy)"),
    ]
    assert night.messages == []


def test_the_opening_is_sent_when_the_silence_ends_with_the_present_items(night):
    night.silence(comment="deploy")
    night.put("a")
    night.run()
    night.put("b")
    night.run()
    assert night.notify_expired() == 0
    night.now = NOW + 4 * HOUR
    night.channels = ("oncall", "audit")
    assert night.notify_expired() == 1
    notified = night.incident
    assert (notified.silence_id, notified.channels, notified.last_message_at) == (None, ("oncall", "audit"), night.now)
    assert notified.unnotified_count == 0
    assert night.events[-1] == ("notified", "silence 1 ended")
    assert night.kinds == ["opened", "opened"]
    message = night.messages[0][0]
    assert ("items", "2 (peak 2)") in message.facts
    assert ("silenced", "since 2026-03-01 12:01 UTC; silence 1 ended") in message.facts
    assert (night.notify_expired(), len(night.messages)) == (0, 2)


def test_an_incident_that_resolves_during_its_silence_is_never_notified_and_says_so(night):
    night.silence()
    night.put("a")
    night.run()
    night.change("a", state="completed")
    night.run()
    assert (night.incident.state, night.messages) == (RESOLVED, [])
    assert night.events[-1] == ("resolved", "no item is in that state any more (never notified, because of silence 1)")
    night.now += 5 * HOUR
    assert (night.notify_expired(), night.messages) == (0, [])


def test_updates_and_reminders_wait_for_the_end_of_a_silence_and_say_so(night):
    night.put("a")
    night.run()
    number = night.silence(lasts=30 * HOUR)
    night.put("b")
    night.now += 40 * MINUTE
    decisions = [night.run().changes[0].decision for _ in range(5)]
    assert {(each.action, each.reason, each.silence_id) for each in decisions} == {
        (Action.CONTINUE, DecisionReason.SILENCED, number)
    }
    assert (night.incident.unnotified_count, night.incident.silence_id) == (1, None)
    assert [kind for kind, _ in night.events] == ["joined", "opened", "joined", "silenced"]
    assert (night.notify_expired(), night.kinds) == (0, ["opened"])
    night.now += 30 * HOUR
    assert night.run().changes[0].decision.action is Action.UPDATE
    assert night.events[-1] == (
        "updated",
        "items joined since the last notification (silenced since 2026-03-01 12:42 UTC by silence 1)",
    )
    assert ("silenced", "since 2026-03-01 12:42 UTC by silence 1") in night.messages[-1][0].facts
    night.now += 25 * HOUR
    assert night.run().changes[0].decision.action is Action.REMIND
    assert night.events[-1] == ("reminded", "a reminder is due")


def test_a_resolution_goes_where_the_opening_went_silenced_or_not(night):
    night.put("a")
    night.run()
    night.silence()
    night.change("a", state="completed")
    night.run()
    assert night.kinds == ["opened", "resolved"]


def test_a_silenced_reopening_is_treated_like_an_opening(night):
    night.run(TOO_MUCH)
    night.run()
    night.run()
    assert night.incident.state is RESOLVED
    number = night.silence()
    (change,) = night.run(TOO_MUCH).changes
    assert (change.decision.action, change.decision.silence_id) == (Action.REOPEN, number)
    assert (night.incident.silence_id, night.incident.channels) == (number, ())
    assert [kind for kind, _ in night.events][-2:] == ["reopened", "silenced"]
    night.expire(number)
    assert night.notify_expired() == 1
    assert night.events[-1] == ("notified", "silence 1 was ended by bo")
    assert night.kinds == ["opened", "resolved", "opened"]
    assert night.messages[-1][0].title.endswith(": reopened")


def test_an_incident_that_was_never_notified_is_routed_when_it_reopens_without_a_silence(night):
    number = night.silence()
    night.run(TOO_MUCH)
    night.run()
    night.run()
    night.expire(number)
    assert night.run(TOO_MUCH).changes[0].decision.action is Action.REOPEN
    assert (night.incident.channels, night.incident.silence_id) == (("oncall",), None)
    assert night.kinds == ["opened"]


def test_between_the_end_of_a_silence_and_the_delivery_a_run_repeats_nothing(night):
    number = night.silence()
    night.put("a")
    night.run()
    night.put("b")
    night.run()
    night.now += 40 * MINUTE
    night.expire(number)
    (change,) = night.run().changes
    assert (change.decision.action, change.decision.reason) == (Action.CONTINUE, DecisionReason.OPENING_DUE)
    assert (night.incident.unnotified_count, night.messages) == (1, [])
    assert night.notify_expired() == 1


def test_another_silence_takes_over_and_is_named(night):
    first = night.silence()
    night.run(TOO_MUCH)
    second = night.silence(cause="spending_limit", lasts=9 * HOUR)
    assert night.notify_expired() == 0
    assert night.incident.silence_id == first
    night.expire(first)
    assert (night.notify_expired(), night.notify_expired()) == (0, 0)
    assert night.incident.silence_id == second
    assert [kind for kind, _ in night.events] == ["opened", "silenced", "silenced"]
    night.now += 10 * HOUR
    assert night.notify_expired() == 1
    assert night.events[-1] == ("notified", "silence 2 ended")


def test_the_opening_is_sent_when_no_group_of_the_items_matches_the_silence_any_more(night):
    night.silence(group="serm*")
    night.put("a", group_name="sermons")
    night.put("b", group_name="songs")
    night.run()
    assert night.incident.silence_id == 1
    night.change("a", state="completed")
    night.run()
    assert night.notify_expired() == 1
    assert night.events[-1] == ("notified", "silence 1 no longer matches")


def test_routes_see_the_groups_of_the_items_at_the_opening(night):
    night.put("a", group_name="sermons")
    night.run()
    assert night.asked_to_route[-1]["group"] == ("sermons",)


def test_incidents_of_other_environments_are_ignored(night):
    number = night.silence()
    night.run(TOO_MUCH)
    night.expire(number)
    with writing(night.engine) as conn:
        assert replace(night.silence_expiry, environment="staging").notify_expired(conn, now=night.now) == 0
    assert night.notify_expired() == 1


def test_an_acknowledged_incident_is_notified_after_its_silence_with_the_acknowledgement(night):
    number = night.silence()
    night.run(TOO_MUCH)
    night.ack()
    assert night.messages == []
    night.expire(number)
    assert night.notify_expired() == 1
    assert night.incident.state is ACKNOWLEDGED
    assert ("acknowledged", "by cem, 2026-03-01 12:01:00 UTC") in night.messages[0][0].facts


def test_two_processes_at_once_notify_once(night, database_kind):
    number = night.silence()
    night.run(TOO_MUCH)
    night.put("a")
    night.run(TOO_MUCH)
    night.expire(number)
    counts = []
    other = threading.Thread(target=lambda: counts.append(night.notify_expired()))
    with writing(night.engine) as conn:
        counts.append(night.silence_expiry.notify_expired(conn, now=night.now))
        other.start()
        if database_kind == "postgresql":  # on PostgreSQL it does not wait for this transaction; on SQLite it must
            other.join()
            assert counts == [2, 0]
    other.join()
    assert sorted(counts) == [0, 2]
    assert night.kinds == ["opened", "opened"]


def test_channel_failing_can_be_silenced_too(engine):
    night = Night(engine)
    channel_failures = ChannelFailures(
        environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=["oncall", "audit"],
        route=lambda _: ("oncall", "audit"),
    )  # fmt: skip

    def failed(channel="oncall"):
        with writing(engine) as conn:
            channel_failures.record_failure(conn, channel, error="HTTP 401", now=night.now)

    number = night.silence(cause="channel_*", lasts=9 * HOUR)
    failed()
    night.now += 5 * HOUR
    failed()
    assert (night.incident.silence_id, night.incident.channels, night.messages) == (number, (), [])
    assert [kind for kind, _ in night.events] == ["opened", "silenced"]
    night.expire(number)
    failed()
    assert night.messages == [], "the opening comes first"
    with writing(engine) as conn:
        assert (
            replace(night.silence_expiry, channel_router=channel_failures.router).notify_expired(conn, now=night.now)
            == 1
        )
    ((message, channel),) = night.messages
    assert (channel, message.kind.value) == ("audit", "opened")
    assert ("last error", "HTTP 401") in message.facts


def test_when_the_notified_channel_fails_too_the_next_one_waits_for_the_silence(engine):
    night = Night(engine)
    channel_failures = ChannelFailures(
        environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=["oncall", "audit", "chat"],
        route=lambda _: ("oncall", "audit"),
    )  # fmt: skip

    def failed(channel):
        with writing(engine) as conn:
            channel_failures.record_failure(conn, channel, error="HTTP 401", now=night.now)

    failed("oncall")
    number = night.silence(target="channel:oncall")
    for _ in range(2):
        failed("audit")
    sent = [(message.target, channel) for message, channel in night.messages]
    assert sent == [("channel:oncall", "audit"), ("channel:audit", "chat")]
    night.expire(number)
    failed("audit")
    assert night.messages[-1][1] == "chat"
    assert ("silenced", "since 2026-03-01 12:00 UTC by silence 1") in night.messages[-1][0].facts


# --- laws ------------------------------------------------------------------------------------------------------------

STEPS = ("bad", "bad", "good", "good", "silence", "narrow", "expire", "later", "notify_expired", "ack")
FACTS = RunFacts(run_id=0, status=RunStatus.COMPLETE, total=30, unknown=0, answered=30)
_names = itertools.count()


class Life:
    """One target in a shared database, and its events."""

    def __init__(self, engine, *, silenced):
        self.engine, self.silenced, self.now = engine, silenced, NOW
        self.name = f"t{next(_names)}"
        self.evaluator = IncidentEvaluator(
            target=self.name,
            environment=self.name,
            rules=DEFAULT_RULES,
            age_limits=AGE_LIMITS,
            route=lambda _: ("oncall",),
        )
        self.made = []

    def step(self, what):
        self.now += MINUTE
        match what:
            case "bad" | "good":
                self._run(Evidence(cause=REVOKED, count=3, breakdown={"401": 3}) if what == "bad" else None)
            case "silence" | "narrow" if self.silenced:
                matchers = {"target": (self.name,), **({"cause": ("outage",)} if what == "narrow" else {})}
                with writing(self.engine) as conn:
                    self.made.append(
                        silences.add(
                            conn, matchers=matchers, starts_at=self.now, ends_at=self.now + 3 * HOUR, comment="",
                            author="ana", now=self.now,
                        )
                    )  # fmt: skip
            case "expire" if self.made:
                with writing(self.engine) as conn:
                    silences.expire(conn, self.made[-1].id, by="bo", now=self.now)
            case "later":
                self.now += 5 * HOUR
            case "notify_expired":
                self.notify_expired()
            case "ack":
                with writing(self.engine) as conn:
                    for each in incidents.list_incidents(conn, target=self.name, open_only=True):
                        handling.acknowledge(conn, each.id, operator_action=OperatorAction(by="cem"), now=self.now)

    def _run(self, piece):
        with writing(self.engine) as conn:
            run_id = runs.start(
                conn, target=self.name, environment=self.name, run_key=None, epoch=1, started_at=self.now
            )
            runs.finish(
                conn, run_id=run_id, status=RunStatus.COMPLETE, abort_reason=None, owner_cause=None, due=30,
                answered=30, error=None, finished_at=self.now, snapshot=None,
            )  # fmt: skip
            facts = replace(FACTS, run_id=run_id)
            self.evaluator.evaluate(
                conn, facts=facts, evidence=[piece] if piece else [], now=self.now, sync_log_empty=False
            )

    def notify_expired(self):
        silence_expiry = SilenceExpiry(
            environment=self.name, route=lambda _: ("oncall",), channel_router=lambda _: lambda _: ()
        )
        with writing(self.engine) as conn:
            return silence_expiry.notify_expired(conn, now=self.now)

    @property
    def found(self):
        with reading(self.engine) as conn:
            return list(reversed(incidents.list_incidents(conn, target=self.name)))

    def kinds(self, incident_id):
        with reading(self.engine) as conn:
            mine = select(notifications.c.kind).where(notifications.c.incident_id == incident_id)
            sent = conn.execute(mine.order_by(notifications.c.id)).scalars().all()
            return list(sent), incidents.events(conn, incident_id)


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(STEPS), max_size=30))
def test_silences_delay_notifications_and_change_nothing_else(engine, steps):
    life, loud = Life(engine, silenced=True), Life(engine, silenced=False)
    for step in steps:
        life.step(step)
        loud.step(step)
    life.now += 4 * HOUR  # all silences have ended
    life.notify_expired()
    assert life.notify_expired() == 0
    for each in life.found:
        sent, happened = life.kinds(each.id)
        assert re.fullmatch(r"(O[urk]*R)*(O[urk]*)?", _letters(sent)), "no resolution without an opening"
        assert sent.count("opened") <= sum(step.kind in {"opened", "reopened"} for step in happened)
        if each.state is not RESOLVED:
            assert each.silence_id is None
            assert _letters(sent).rfind("O") > _letters(sent).rfind("R"), "the opening was sent"
    assert [_life(each) for each in life.found] == [_life(each) for each in loud.found]


def _letters(kinds):
    letters = {"opened": "O", "resolved": "R", "updated": "u", "reminder": "r", "acknowledged": "k"}
    return "".join(letters[kind] for kind in kinds)


def _life(each):
    """An incident without its messages."""
    return (
        each.cause, each.state, each.opened_at, each.first_evidence_at, each.last_evidence_at, each.resolved_at,
        each.acknowledged_at, each.acknowledged_by, each.peak_count,
    )  # fmt: skip
