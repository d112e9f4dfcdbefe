"""What `check --quiet` prints of a run: news, and nothing while a known incident goes on."""

from dataclasses import replace

import pytest
from reports.samples import INCIDENT, NOW, OPENED, OUTAGE, a_report

from monitor.incidents.decide import Action, Decision, DecisionReason
from monitor.incidents.evaluate import AppliedDecision, EvaluationResult
from monitor.model import Cause, IncidentState, RunStatus, Silence
from monitor.reports.news import incomplete_is_news, news_text

SILENCE = Silence(
    id=3, matchers={"cause": ("items_failed",)}, starts_at=OPENED, ends_at=NOW.replace(year=2030), comment="",
    author="ana",
)  # fmt: skip
ACKNOWLEDGED = replace(INCIDENT, state=IncidentState.ACKNOWLEDGED, acknowledged_at=NOW, acknowledged_by="ana")
OUTAGE_OPEN = replace(INCIDENT, id=9, cause=Cause.OUTAGE, member_count=0, evidence=OUTAGE)


def change(action, incident=INCIDENT):
    decision = Decision(cause=incident.cause, action=action, reason=DecisionReason.THRESHOLD_MET)
    return AppliedDecision(decision=decision, incident=incident)


def evaluation(*changes, evidence=()):
    return {"evaluation": EvaluationResult(changes=changes, evidence=tuple(evidence))}


def news(**changes):
    return news_text(a_report(**changes), now=NOW)


@pytest.mark.parametrize("action", [Action.OPEN, Action.REOPEN, Action.RESOLVE])
def test_an_incident_that_opens_reopens_or_resolves_is_news(action):
    told = news(open_incidents=(INCIDENT, OUTAGE_OPEN), **evaluation(change(action)))
    assert "#7 items_failed" in told
    assert "#9" not in told, "the other one is known"
    assert told.splitlines()[1].startswith("Health: 2 completed")
    assert ("check: " in told) is (action is not Action.RESOLVE)


QUIET = {
    "all is well": {},
    "a known incident": {"open_incidents": (INCIDENT,)},
    "one that goes on": evaluation(change(Action.CONTINUE)),
    "a reminder": evaluation(change(Action.REMIND)),
    "an update": evaluation(change(Action.UPDATE)),
    "a silenced opening": {"silences": (SILENCE,), "open_incidents": (INCIDENT,), **evaluation(change(Action.OPEN))},
    "the end of one that is acknowledged": evaluation(
        change(Action.RESOLVE, replace(ACKNOWLEDGED, state=IncidentState.RESOLVED, resolved_at=NOW))
    ),
}


@pytest.mark.parametrize("changes", QUIET.values(), ids=QUIET)
def test_nothing_else_is(changes):
    assert news(**changes) == ""


CUT_SHORT = {
    "by the deadline": ({"status": RunStatus.PARTIAL, "abort_reason": "deadline"}, True),
    "by a signal, in a known outage": (
        {
            "status": RunStatus.PARTIAL, "abort_reason": "interrupted", "open_incidents": (OUTAGE_OPEN,),
            **evaluation(evidence=[OUTAGE]),
        },
        True,
    ),
    "by a cause without an incident yet": ({"status": RunStatus.ABORTED, "abort_reason": "outage"}, True),
    "by a cause that just opened one": (
        {
            "status": RunStatus.ABORTED, "abort_reason": "outage", "open_incidents": (OUTAGE_OPEN,),
            **evaluation(change(Action.OPEN, OUTAGE_OPEN)),
        },
        True,
    ),
    "by the cause of a known incident": (
        {"status": RunStatus.ABORTED, "abort_reason": "outage", "open_incidents": (OUTAGE_OPEN,)}, False,
    ),
    "by the deadline, in a known outage": (
        {
            "status": RunStatus.PARTIAL, "abort_reason": "deadline", "open_incidents": (OUTAGE_OPEN,),
            **evaluation(evidence=[OUTAGE]),
        },
        False,
    ),
    "by the deadline, beside another incident": (
        {"status": RunStatus.PARTIAL, "abort_reason": "deadline", "open_incidents": (INCIDENT,)}, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "is_news"), CUT_SHORT.values(), ids=CUT_SHORT)
def test_a_run_that_was_cut_short_is_news_unless_a_known_incident_explains_it(changes, is_news):
    report = a_report(**changes)
    assert incomplete_is_news(report) is is_news
    assert bool(news_text(report, now=NOW)) is is_news
