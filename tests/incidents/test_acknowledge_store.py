"""Acknowledging and resolving incidents, alone and while a run closes."""

import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from incidents.test_evaluate import Site
from sqlalchemy import text

from monitor.database.engine import writing
from monitor.incidents import acknowledge as handling
from monitor.incidents.decide import Action, DecisionReason, OperatorAction
from monitor.model import Cause, Evidence, IncidentState, RunStatus

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
REVOKED = Evidence(cause=Cause.UNAUTHORIZED, count=3, breakdown={"401": 3})
TOO_MUCH = Evidence(cause=Cause.SPENDING_LIMIT, count=3, breakdown={"402": 3})
OPEN, ACKNOWLEDGED, RESOLVED = IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.RESOLVED
ANA = OperatorAction(by="ana", comment="on it")


class Desk(Site):
    """A target's evaluator, and an operator."""

    def ack(self, operator_action=ANA, number=1):
        with writing(self.engine) as conn:
            return handling.acknowledge(conn, number, operator_action=operator_action, now=self.now)

    def resolve(self, operator_action=ANA, number=1):
        with writing(self.engine) as conn:
            return handling.resolve(conn, number, operator_action=operator_action, now=self.now)


@pytest.fixture
def desk(engine):
    return Desk(engine)


def test_an_acknowledgement_is_sent_where_the_opening_went_and_stops_reminders(desk):
    desk.run(TOO_MUCH)
    desk.channels = ("elsewhere",)
    handled = desk.ack()
    assert handled.changed
    assert (handled.incident, desk.incident.state) == (desk.incident, ACKNOWLEDGED)
    assert (desk.incident.acknowledged_by, desk.incident.acknowledged_at) == ("ana", desk.now)
    message, channel = desk.messages[-1]
    assert (message.kind.value, channel) == ("acknowledged", "oncall")
    assert message.title.endswith(": acknowledged")
    assert message.facts[1:3] == (("acknowledged", "by ana, 2026-03-01 12:01:00 UTC"), ("comment", "on it"))
    assert ("acknowledge", "ingestion-monitor incidents ack 1") not in message.commands
    desk.now += 9 * HOUR
    assert desk.run(TOO_MUCH).changes[0].decision.action is Action.CONTINUE
    assert desk.life == ["opened", "acknowledged"]


def test_acknowledging_twice_names_the_first_person_and_changes_nothing(desk):
    desk.run(TOO_MUCH)
    desk.ack()
    before = (desk.incident, desk.messages, desk.life)
    desk.now += MINUTE
    again = desk.ack(OperatorAction(by="bo"))
    assert not again.changed
    assert (again.decision.reason, again.incident.acknowledged_by) == (DecisionReason.ALREADY_ACKNOWLEDGED, "ana")
    assert (desk.incident, desk.messages, desk.life) == before


def test_a_reopening_clears_the_acknowledgement(desk):
    desk.run(TOO_MUCH)
    desk.ack()
    desk.run()
    desk.run()
    assert (desk.incident.state, desk.incident.acknowledged_by) == (RESOLVED, "ana")
    desk.run(TOO_MUCH)
    assert (desk.incident.state, desk.incident.acknowledged_by, desk.incident.acknowledged_at) == (OPEN, None, None)


def test_a_manual_resolution_releases_the_items_and_the_next_run_with_evidence_reopens_it(desk):
    desk.put("a", "b")
    desk.run()
    handled = desk.resolve(OperatorAction(by="ana", comment="known"))
    assert handled.changed
    assert (desk.incident.state, desk.incident.member_count, desk.members(1)) == (RESOLVED, 0, [])
    message, channel = desk.messages[-1]
    assert (message.kind.value, channel, ("resolved by", "ana") in message.facts) == ("resolved", "oncall", True)
    assert desk.run().changes[0].decision.action is Action.REOPEN
    assert desk.members(1) == ["a", "b"]
    desk.resolve()
    desk.now += 20 * MINUTE
    assert desk.run().changes[0].decision.action is Action.OPEN
    assert [each.id for each in desk.incidents] == [2, 1]


def test_a_resolved_incident_can_be_neither_acknowledged_nor_resolved(desk):
    desk.run(TOO_MUCH)
    desk.resolve()
    before = (desk.incident, desk.messages, desk.life)
    for handled in (desk.ack(), desk.resolve()):
        assert (handled.changed, handled.decision.reason) == (False, DecisionReason.ALREADY_RESOLVED)
    assert (desk.incident, desk.messages, desk.life) == before


def test_an_action_on_an_unknown_incident_does_nothing(desk):
    assert (desk.ack(number=7), desk.resolve(number=7)) == (None, None)


# --- while a run closes ------------------------------------------------------------------------------------------


@contextmanager
def at_the_same_time(desk, act, *, blocks):
    """Acts in a thread while the caller's transaction is open; yields a list that gets its result.

    On PostgreSQL, the caller continues only once the thread waits for its lock.
    """
    outcome = []
    other = threading.Thread(target=lambda: outcome.append(act()))
    try:
        with writing(desk.engine) as conn:
            yield conn, outcome
            other.start()
            if blocks:
                wait_until_blocked(desk.engine)
                assert outcome == []
    finally:
        other.join()


def wait_until_blocked(engine, *, within_s=30):
    """Waits until another session of this database waits for a lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        with engine.connect() as conn:
            if conn.execute(waiting).scalar_one():
                return
    raise AssertionError("no session waits for a lock")


def evaluate_in(conn, desk, *seen):
    """One more run, evaluated in the caller's transaction."""
    facts = desk._finished(conn, status=RunStatus.COMPLETE, due=30, answered=30)
    return desk.evaluator.evaluate(conn, facts=facts, evidence=seen, now=desk.now, sync_log_empty=False)


def test_an_acknowledgement_waits_for_a_run_that_resolves_the_incident(desk, database_kind):
    desk.run(TOO_MUCH)
    desk.run()
    with at_the_same_time(desk, desk.ack, blocks=database_kind == "postgresql") as (conn, outcome):
        assert evaluate_in(conn, desk).changes[0].decision.action is Action.RESOLVE
    assert [(each.changed, each.decision.reason) for each in outcome] == [(False, DecisionReason.ALREADY_RESOLVED)]
    assert (desk.incident.state, desk.kinds) == (RESOLVED, ["opened", "resolved"])


def test_a_run_waits_for_an_acknowledgement(desk, database_kind):
    desk.run(TOO_MUCH)
    desk.now += 5 * HOUR  # a reminder is due
    with at_the_same_time(desk, lambda: desk.run(TOO_MUCH), blocks=database_kind == "postgresql") as (conn, outcome):
        handling.acknowledge(conn, 1, operator_action=ANA, now=desk.now)
    assert [each.changes[0].decision.action for each in outcome] == [Action.CONTINUE]
    assert (desk.incident.state, desk.incident.acknowledged_by) == (ACKNOWLEDGED, "ana")
    assert desk.kinds == ["opened", "acknowledged"]


def test_a_run_waits_for_a_manual_resolution_and_reopens_on_evidence(desk, database_kind):
    desk.run(TOO_MUCH)
    with at_the_same_time(desk, lambda: desk.run(TOO_MUCH), blocks=database_kind == "postgresql") as (conn, outcome):
        handling.resolve(conn, 1, operator_action=ANA, now=desk.now)
    assert [each.changes[0].decision.action for each in outcome] == [Action.REOPEN]
    assert desk.kinds == ["opened", "resolved", "opened"]


def test_of_two_simultaneous_acknowledgements_one_counts(desk, database_kind):
    desk.run(TOO_MUCH)
    blocks = database_kind == "postgresql"
    with at_the_same_time(desk, lambda: desk.ack(OperatorAction(by="bo")), blocks=blocks) as (conn, outcome):
        handling.acknowledge(conn, 1, operator_action=ANA, now=desk.now)
    assert [(each.changed, each.incident.acknowledged_by) for each in outcome] == [(False, "ana")]
    assert desk.kinds == ["opened", "acknowledged"]
