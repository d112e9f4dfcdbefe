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


class OperatedSite(Site):
    """A target's evaluator, and an operator."""

    def ack(self, operator_action=ANA, number=1):
        with writing(self.engine) as conn:
            return handling.acknowledge(conn, number, operator_action=operator_action, now=self.now)

    def resolve(self, operator_action=ANA, number=1):
        with writing(self.engine) as conn:
            return handling.resolve(conn, number, operator_action=operator_action, now=self.now)


@pytest.fixture
def site(engine):
    return OperatedSite(engine)


def test_an_acknowledgement_is_sent_where_the_opening_went_and_stops_reminders(site):
    site.run(TOO_MUCH)
    site.channels = ("elsewhere",)
    handled = site.ack()
    assert handled.changed
    assert (handled.incident, site.incident.state) == (site.incident, ACKNOWLEDGED)
    assert (site.incident.acknowledged_by, site.incident.acknowledged_at) == ("ana", site.now)
    message, channel = site.messages[-1]
    assert (message.kind.value, channel) == ("acknowledged", "oncall")
    assert message.title.endswith(": acknowledged")
    assert message.facts[1:3] == (("acknowledged", "by ana, 2026-03-01 12:01:00 UTC"), ("comment", "on it"))
    assert ("acknowledge", "ingestion-monitor incidents ack 1") not in message.commands
    site.now += 9 * HOUR
    assert site.run(TOO_MUCH).changes[0].decision.action is Action.CONTINUE
    assert site.life == ["opened", "acknowledged"]


def test_acknowledging_twice_names_the_first_person_and_changes_nothing(site):
    site.run(TOO_MUCH)
    site.ack()
    before = (site.incident, site.messages, site.life)
    site.now += MINUTE
    again = site.ack(OperatorAction(by="bo"))
    assert not again.changed
    assert (again.decision.reason, again.incident.acknowledged_by) == (DecisionReason.ALREADY_ACKNOWLEDGED, "ana")
    assert (site.incident, site.messages, site.life) == before


def test_a_reopening_clears_the_acknowledgement(site):
    site.run(TOO_MUCH)
    site.ack()
    site.run()
    site.run()
    assert (site.incident.state, site.incident.acknowledged_by) == (RESOLVED, "ana")
    site.run(TOO_MUCH)
    assert (site.incident.state, site.incident.acknowledged_by, site.incident.acknowledged_at) == (OPEN, None, None)


def test_a_manual_resolution_releases_the_items_and_the_next_run_with_evidence_reopens_it(site):
    site.put("a", "b")
    site.run()
    handled = site.resolve(OperatorAction(by="ana", comment="known"))
    assert handled.changed
    assert (site.incident.state, site.incident.member_count, site.members(1)) == (RESOLVED, 0, [])
    message, channel = site.messages[-1]
    assert (message.kind.value, channel, ("resolved by", "ana") in message.facts) == ("resolved", "oncall", True)
    assert site.run().changes[0].decision.action is Action.REOPEN
    assert site.members(1) == ["a", "b"]
    site.resolve()
    site.now += 20 * MINUTE
    assert site.run().changes[0].decision.action is Action.OPEN
    assert [each.id for each in site.incidents] == [2, 1]


def test_a_resolved_incident_can_be_neither_acknowledged_nor_resolved(site):
    site.run(TOO_MUCH)
    site.resolve()
    before = (site.incident, site.messages, site.life)
    for handled in (site.ack(), site.resolve()):
        assert (handled.changed, handled.decision.reason) == (False, DecisionReason.ALREADY_RESOLVED)
    assert (site.incident, site.messages, site.life) == before


def test_an_action_on_an_unknown_incident_does_nothing(site):
    assert (site.ack(number=7), site.resolve(number=7)) == (None, None)


# --- while a run closes ------------------------------------------------------------------------------------------


@contextmanager
def at_the_same_time(site, act, *, blocks):
    """Acts in a thread while the caller's transaction is open; yields a list that gets its result.

    On PostgreSQL, the caller continues only once the thread waits for its lock.
    """
    outcome = []
    other = threading.Thread(target=lambda: outcome.append(act()))
    try:
        with writing(site.engine) as conn:
            yield conn, outcome
            other.start()
            if blocks:
                wait_until_blocked(site.engine)
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


def evaluate_in(conn, site, *seen):
    """Evaluates one more run in the caller's transaction."""
    facts = site._finished(conn, status=RunStatus.COMPLETE, due=30, answered=30)
    return site.evaluator.evaluate(conn, facts=facts, evidence=seen, now=site.now, sync_log_empty=False)


def test_an_acknowledgement_waits_for_a_run_that_resolves_the_incident(site, database_kind):
    site.run(TOO_MUCH)
    site.run()
    with at_the_same_time(site, site.ack, blocks=database_kind == "postgresql") as (conn, outcome):
        assert evaluate_in(conn, site).changes[0].decision.action is Action.RESOLVE
    assert [(each.changed, each.decision.reason) for each in outcome] == [(False, DecisionReason.ALREADY_RESOLVED)]
    assert (site.incident.state, site.kinds) == (RESOLVED, ["opened", "resolved"])


def test_a_run_waits_for_an_acknowledgement(site, database_kind):
    site.run(TOO_MUCH)
    site.now += 5 * HOUR  # a reminder is due
    with at_the_same_time(site, lambda: site.run(TOO_MUCH), blocks=database_kind == "postgresql") as (conn, outcome):
        handling.acknowledge(conn, 1, operator_action=ANA, now=site.now)
    assert [each.changes[0].decision.action for each in outcome] == [Action.CONTINUE]
    assert (site.incident.state, site.incident.acknowledged_by) == (ACKNOWLEDGED, "ana")
    assert site.kinds == ["opened", "acknowledged"]


def test_a_run_waits_for_a_manual_resolution_and_reopens_on_evidence(site, database_kind):
    site.run(TOO_MUCH)
    with at_the_same_time(site, lambda: site.run(TOO_MUCH), blocks=database_kind == "postgresql") as (conn, outcome):
        handling.resolve(conn, 1, operator_action=ANA, now=site.now)
    assert [each.changes[0].decision.action for each in outcome] == [Action.REOPEN]
    assert site.kinds == ["opened", "resolved", "opened"]


def test_of_two_simultaneous_acknowledgements_one_counts(site, database_kind):
    site.run(TOO_MUCH)
    blocks = database_kind == "postgresql"
    with at_the_same_time(site, lambda: site.ack(OperatorAction(by="bo")), blocks=blocks) as (conn, outcome):
        handling.acknowledge(conn, 1, operator_action=ANA, now=site.now)
    assert [(each.changed, each.incident.acknowledged_by) for each in outcome] == [(False, "ana")]
    assert site.kinds == ["opened", "acknowledged"]
