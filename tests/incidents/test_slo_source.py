"""Objectives on real databases: what the end of a run says of them, and the incident that it leads to."""

from dataclasses import replace
from datetime import timedelta

import pytest
from incidents.test_evaluate import Site, actions
from sqlalchemy import delete

from monitor.database.engine import reading, writing
from monitor.database.tables import items
from monitor.incidents import store as incident_store
from monitor.incidents.decide import Action, DecisionReason
from monitor.incidents.slo import AlertState, Objective
from monitor.incidents.slo_source import SloSource, open_incident_id, read_status, read_statuses
from monitor.model import Cause, Evidence, RunStatus, Severity
from monitor.model.items import FirstCompletion
from monitor.rollups.indexing import Watch
from monitor.rollups.indexing_store import count_completions

BURN = Cause.SLO_BURN
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PROMISE = Objective(name="in time", objective=0.95, within=15 * MINUTE)


class PromisedSite(Site):
    """A target with objectives: uploads of a moment, and runs."""

    def __init__(self, engine):
        super().__init__(engine)
        self.promise(PROMISE)
        self.number = 0

    def promise(self, *objectives):
        self.evaluator = replace(self.evaluator, sources=(SloSource(objectives=objectives),) if objectives else ())

    def indexed(self, count, *, ago, took=5 * MINUTE, group=None, known=True):
        """Uploads that runs saw completed."""
        at = self.now - ago
        completions = [
            FirstCompletion(
                item_id=f"i{self.number + n}", group=group, uploaded_at=at, upload_known=known,
                not_completed_at=at + took - MINUTE if known else None, at=at + took,
            )
            for n in range(count)
        ]  # fmt: skip
        self.number += count
        with writing(self.engine) as conn:
            count_completions(conn, target="gloo", completions=completions, watch=Watch(usual_gap=5 * MINUTE))

    def waiting(self, count, *, ago, state="pending", group=None):
        """Uploads that are not completed."""
        names = [f"w{self.number + n}" for n in range(count)]
        self.number += count
        self.put(*names, state=state, known_state=state, submitted_at=self.now - ago, group_name=group)

    def end(self, status=RunStatus.COMPLETE, inhibitors=()):
        """The end of a run, a minute after the last."""
        with writing(self.engine) as conn:
            facts = self._finished(conn, status=status, due=30, answered=30)
            return self.evaluator.evaluate_observations(conn, facts=facts, now=self.now, inhibitors=inhibitors)

    def status(self, objective=PROMISE):
        with reading(self.engine) as conn:
            return read_status(conn, target="gloo", objective=objective)

    @property
    def open_id(self):
        with reading(self.engine) as conn:
            return open_incident_id(conn, target="gloo", name=PROMISE.name)


@pytest.fixture
def site(engine):
    return PromisedSite(engine)


def test_before_the_first_run_nothing_is_known(site):
    assert site.status() is None


def test_without_uploads_there_is_nothing_to_say(site):
    assert site.end().evidence == ()
    assert (site.status().total, site.status().state) == (0, AlertState.QUIET)


def test_uploads_count_when_their_time_is_up(site):
    site.indexed(40, ago=2 * HOUR)
    site.indexed(3, ago=2 * HOUR, took=16 * MINUTE)
    site.waiting(2, ago=HOUR)
    site.waiting(5, ago=5 * MINUTE)
    site.indexed(7, ago=5 * MINUTE, took=2 * MINUTE)  # good, but the others of its time are not decided yet
    site.end()
    assert (site.status().total, site.status().good) == (45, 40)


def test_an_incident_opens_by_burn_rate_says_why_and_ends_with_the_burn(site):
    site.indexed(100, ago=2 * HOUR)
    site.end()
    site.waiting(30, ago=40 * MINUTE)
    site.waiting(10, ago=21 * MINUTE)
    assert actions(site.end()) == [(BURN, Action.OPEN)]
    incident = site.incident
    assert (incident.group, incident.severity, incident.id) == ("in time", Severity.CRITICAL, site.open_id)
    facts = dict(incident.evidence.facts)
    assert facts["burn rate"] == "20× over 1h, 20× over 5m; threshold 14.4×"
    assert facts["objective"] == "95% of uploads within 15m, over 28d"
    message, _ = site.messages[0]
    assert set(facts.items()) <= set(message.facts)
    # the same again: nothing is repeated
    assert actions(site.end()) == [(BURN, Action.CONTINUE)]
    site.indexed(2000, ago=22 * MINUTE)
    (change,) = site.end().changes
    assert (change.decision.action, change.decision.reason) == (Action.RESOLVE, DecisionReason.CLEAN_RUNS)
    assert (site.kinds, site.open_id) == (["opened", "resolved"], None)


def test_an_alert_goes_on_while_nothing_is_decided(site):
    site.indexed(2000, ago=30 * HOUR)
    site.waiting(50, ago=40 * MINUTE)
    site.waiting(3, ago=21 * MINUTE)
    assert actions(site.end()) == [(BURN, Action.OPEN)]
    site.now += 2 * HOUR
    verdict = site.end()
    assert site.status().state is AlertState.UNDECIDED
    assert (actions(verdict), len(verdict.evidence)) == ([(BURN, Action.CONTINUE)], 1)
    site.promise()
    assert actions(site.end()) == [(BURN, Action.RESOLVE)]
    # undecided alone opens nothing
    site.promise(PROMISE)
    assert actions(site.end()) == []


def test_six_hours_without_an_upload_end_it(site):
    site.indexed(2000, ago=30 * HOUR)
    site.waiting(53, ago=21 * MINUTE)
    assert actions(site.end()) == [(BURN, Action.OPEN)]
    site.now += 7 * HOUR
    assert actions(site.end()) == [(BURN, Action.RESOLVE)]


def test_while_the_target_is_in_trouble_an_objective_opens_nothing(site):
    site.indexed(100, ago=2 * HOUR)
    site.waiting(30, ago=21 * MINUTE)
    outage = Evidence(cause=Cause.OUTAGE, count=9)
    assert actions(site.end(inhibitors=[outage])) == []
    assert actions(site.end()) == [(BURN, Action.OPEN)]


def test_an_objective_that_is_gone_resolves_its_incident(site):
    site.indexed(100, ago=2 * HOUR)
    site.waiting(30, ago=21 * MINUTE)
    site.end()
    site.promise(replace(PROMISE, name="another", objective=0.1))
    (change,) = site.end().changes
    assert (change.incident.group, change.decision.reason) == ("in time", DecisionReason.NO_LONGER_CONFIGURED)


def test_each_group_may_have_an_objective_of_its_own(site):
    site.indexed(100, ago=2 * HOUR, group="manuals")
    site.indexed(100, ago=2 * HOUR, group="faq")
    site.waiting(100, ago=2 * HOUR, group="faq")
    site.end()
    shares = [site.status(replace(PROMISE, group=group)).share for group in ("manuals", "faq", None)]
    assert shares == [1.0, 0.5, pytest.approx(2 / 3)]


@pytest.mark.parametrize("state", ["failed", "pending", "not_found"])
def test_a_first_look_at_an_old_sync_log_is_no_burn(site, state):
    site.indexed(500, ago=2 * DAY, known=False)
    site.waiting(50, ago=20 * HOUR, state=state)
    site.waiting(50, ago=40 * MINUTE, state=state)
    assert (actions(site.end()), site.status().total) == ([], 0)
    # from the first known time on, uploads are counted
    site.indexed(1, ago=21 * MINUTE)
    site.waiting(9, ago=21 * MINUTE, state=state)
    assert actions(site.end()) == [(BURN, Action.OPEN)]
    assert (site.status().total, site.status().good) == (10, 1)


def test_while_nothing_can_be_asked_no_upload_is_known_to_be_late(site):
    site.indexed(100, ago=2 * HOUR)
    site.end()
    asked = site.now
    site.waiting(50, ago=MINUTE)
    for status in (RunStatus.ABORTED, RunStatus.FAILED, RunStatus.CRASHED):
        site.now += HOUR
        assert actions(site.end(status)) == []
        assert site.status().at == asked
    assert actions(site.end(RunStatus.PARTIAL)) == [(BURN, Action.OPEN)]


def test_items_that_left_the_log_are_forgotten_by_the_objective(site):
    site.indexed(100, ago=2 * HOUR)
    site.waiting(30, ago=21 * MINUTE)
    site.end()
    with writing(site.engine) as conn:
        conn.execute(delete(items))
    assert actions(site.end()) == [(BURN, Action.RESOLVE)]


def test_objectives_are_read_again_only_after_a_run(site):
    promised = {"gloo": (PROMISE, replace(PROMISE, name="another", within=HOUR)), "docs": (PROMISE,)}

    def read(known):
        with reading(site.engine) as conn:
            return read_statuses(conn, objectives=promised, known=known)

    assert read({}) == {"gloo": (), "docs": ()}
    site.indexed(100, ago=2 * HOUR)
    site.end()
    found = read({})
    assert [status.total for status in found["gloo"]] == [100, 100]
    site.indexed(50, ago=2 * HOUR)
    assert all(again is before for again, before in zip(read(found)["gloo"], found["gloo"], strict=True))
    site.end()
    assert [status.total for status in read(found)["gloo"]] == [150, 150]
    # a changed objective is another
    promised["gloo"] = (replace(PROMISE, objective=0.5),)
    assert read(found)["gloo"][0].objective.objective == 0.5


def test_evidence_keeps_its_facts(site):
    site.indexed(100, ago=2 * HOUR)
    site.waiting(30, ago=21 * MINUTE)
    (seen,) = site.end().evidence
    with reading(site.engine) as conn:
        stored = incident_store.find(conn, site.open_id).evidence
    assert (stored, stored.count) == (seen, 30)
