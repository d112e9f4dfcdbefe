"""Causes of waits, canaries and objectives: the end of any run evaluates them."""

from dataclasses import replace
from datetime import timedelta

import pytest
from incidents.test_evaluate import Site, actions

from monitor.database.engine import writing
from monitor.incidents.decide import Action, DecisionReason, EvidencePoint
from monitor.incidents.evaluate import EvaluationResult
from monitor.incidents.observations import Observation
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause, Evidence, RunStatus, Severity

WAITS, BURN = Cause.POLLING_TIMEOUTS, Cause.SLO_BURN
MINUTE = timedelta(minutes=1)


class Said:
    """A source that says what it is told."""

    def __init__(self):
        self.observations = ()

    def observe(self, conn, *, target, rules, now):  # the protocol's signature
        return self.observations


class ObservedSite(Site):
    def __init__(self, engine):
        super().__init__(engine)
        self.said = Said()
        self.evaluator = replace(self.evaluator, sources=(self.said,))
        self.points = ()

    def observed_run(self, *observations, inhibitors=()):
        """One run, at whose end the source says this."""
        self.said.observations = observations
        with writing(self.engine) as conn:
            facts = self._finished(conn, status=RunStatus.COMPLETE, due=30, answered=30)
            return self.evaluator.evaluate_observations(conn, facts=facts, now=self.now, inhibitors=inhibitors)

    def waits(self, ended=""):
        """What waits say after more of them ended half a minute before the next run, oldest first: `x` timed out."""
        for each in ended:
            at = self.now + MINUTE / 2
            self.points = (EvidencePoint(run_id=len(self.points) + 1, at=at, evidence=each == "x"), *self.points)
        seen = Evidence(cause=WAITS, count=3, breakdown={"timed out": 3}) if self.points[0].evidence else None
        return Observation(cause=WAITS, points=self.points, evidence=seen)


@pytest.fixture
def site(engine):
    return ObservedSite(engine)


def burning(site, name, severity=None):
    """An objective that burns too fast now."""
    points = (EvidencePoint(run_id=0, at=site.now + MINUTE, evidence=True),)
    evidence = Evidence(cause=BURN, count=7, group=name)
    return Observation(cause=BURN, group=name, points=points, severity=severity, evidence=evidence)


def burns_no_more(site, name):
    points = (EvidencePoint(run_id=0, at=site.now + MINUTE, evidence=False),)
    return Observation(cause=BURN, group=name, points=points)


def test_a_target_without_sources_has_no_such_incident(site):
    assert site.observed_run() == EvaluationResult()


def test_the_numbers_of_a_rule_count_waits_and_not_runs(site):
    assert actions(site.observed_run(site.waits("..x.x"))) == []
    assert actions(site.observed_run(site.waits())) == []
    assert actions(site.observed_run(site.waits("x"))) == [(WAITS, Action.OPEN)]
    assert actions(site.observed_run(site.waits())) == [(WAITS, Action.CONTINUE)]
    assert actions(site.observed_run(site.waits("."))) == [(WAITS, Action.CONTINUE)]
    assert actions(site.observed_run(site.waits("."))) == [(WAITS, Action.RESOLVE)]
    assert site.kinds == ["opened", "resolved"]


def test_the_reason_speaks_of_waits(site):
    (change,) = site.observed_run(site.waits("xxx")).changes
    assert change.decision.reason_text == "evidence in enough of the last waits"


def test_fewer_waits_than_the_rule_needs_open_nothing(site):
    assert actions(site.observed_run(site.waits("xx"))) == []


def test_a_source_can_say_that_an_incident_is_over(site):
    site.observed_run(site.waits("xxx"))
    over = Observation(cause=WAITS, resolved_by=DecisionReason.NOT_OBSERVED)
    (change,) = site.observed_run(over).changes
    assert (change.decision.action, change.decision.reason) == (Action.RESOLVE, DecisionReason.NOT_OBSERVED)
    assert actions(site.observed_run(over)) == []


def test_what_a_request_cause_explains_opens_nothing(site):
    outage = Evidence(cause=Cause.OUTAGE, count=3)
    verdict = site.observed_run(site.waits("xxx"), inhibitors=[outage])
    assert (actions(verdict), verdict.evidence[0].inhibited_by) == ([], Cause.OUTAGE)
    assert actions(site.observed_run(site.waits())) == [(WAITS, Action.OPEN)]


def test_each_objective_has_an_incident_of_its_own(site):
    fast, slow = burning(site, "fast", Severity.CRITICAL), burning(site, "slow")
    assert actions(site.observed_run(fast, slow)) == [(BURN, Action.OPEN)] * 2
    assert {each.group: each.severity for each in site.incidents} == {
        "fast": Severity.CRITICAL, "slow": Severity.WARNING,
    }  # fmt: skip
    changes = site.observed_run(burns_no_more(site, "fast"), burning(site, "slow")).changes
    assert [(each.incident.group, each.decision.action) for each in changes] == [
        ("fast", Action.RESOLVE), ("slow", Action.CONTINUE),
    ]  # fmt: skip


def test_a_configured_severity_stays(site):
    rule = replace(DEFAULT_RULES[BURN], severity=Severity.INFO)
    site.evaluator = replace(site.evaluator, rules={**DEFAULT_RULES, BURN: rule})
    site.observed_run(burning(site, "fast", Severity.CRITICAL))
    assert site.incident.severity is Severity.INFO


def test_what_is_no_longer_configured_resolves(site):
    site.observed_run(burning(site, "old"))
    (change,) = site.observed_run().changes
    assert (change.decision.action, change.decision.reason) == (Action.RESOLVE, DecisionReason.NO_LONGER_CONFIGURED)


def test_an_open_incident_becomes_more_severe_once_and_reaches_the_channels_of_its_new_severity(site):
    site.evaluator = replace(site.evaluator, route=lambda attributes: (attributes["severity"],))
    assert actions(site.observed_run(burning(site, "fast", Severity.WARNING))) == [(BURN, Action.OPEN)]
    (change,) = site.observed_run(burning(site, "fast", Severity.CRITICAL)).changes
    assert (change.decision.action, change.decision.reason) == (Action.UPDATE, DecisionReason.MORE_SEVERE)
    assert (site.incident.severity, site.incident.channels) == (Severity.CRITICAL, ("warning", "critical"))
    assert actions(site.observed_run(burning(site, "fast", Severity.CRITICAL))) == [(BURN, Action.CONTINUE)]
    # a lower one changes nothing
    assert actions(site.observed_run(burning(site, "fast", Severity.WARNING))) == [(BURN, Action.CONTINUE)]
    assert site.incident.severity is Severity.CRITICAL
    assert [(message.kind.value, channel) for message, channel in site.messages] == [
        ("opened", "warning"), ("updated", "warning"), ("updated", "critical"),
    ]  # fmt: skip
    assert site.messages[-1][0].title.endswith(": now more severe")


def test_a_configured_severity_never_rises(site):
    rule = replace(DEFAULT_RULES[BURN], severity=Severity.INFO)
    site.evaluator = replace(site.evaluator, rules={**DEFAULT_RULES, BURN: rule})
    site.observed_run(burning(site, "fast", Severity.WARNING))
    assert actions(site.observed_run(burning(site, "fast", Severity.CRITICAL))) == [(BURN, Action.CONTINUE)]
