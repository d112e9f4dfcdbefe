"""The page of one incident: its steps, what became of its messages, and incidents near it."""

from datetime import timedelta

import pytest
from database.history import MINUTE
from database.troubles import TroubleBuilder
from reports.test_explain import explain_data, run
from support.samples import NOW

from monitor.config import Config
from monitor.database.engine import reading
from monitor.incidents.explain import SentMessage, TimelineEvent
from monitor.model import Cause, Evidence
from monitor.reports import incident_page as pages
from monitor.reports.explain import explain_view
from monitor.reports.incident_page import Relation, incident_page, steps


@pytest.fixture
def troubles(engine):
    return TroubleBuilder(engine)


@pytest.fixture
def page(troubles, configured):
    def read(number, **part):
        with reading(troubles.engine) as conn:
            return incident_page(conn, configured, number, now=NOW, **part)

    return read


@pytest.fixture
def configured():
    return Config.model_construct(rules=())


def test_the_steps_say_what_was_decided_and_what_was_sent(troubles, page):
    found = page(troubles.rejected())
    (opened,) = [step for step in found.steps if step.matters]
    assert (opened.runs, opened.action.value, opened.status.value) == ("run 2", "open", "aborted")
    assert (opened.reason, opened.seen) == ("evidence in 2 of the last 2 runs", "2 × 401; 2 items unknown")
    assert [(each.channel, each.status, each.failed) for each in opened.messages] == [
        ("oncall", "sent", False),
        ("mail", "dead", True),
    ]
    assert [each.channel for each in found.failed_messages] == ["mail"]
    assert found.steps[0].seen
    assert page(99) is None


def test_the_steps_are_the_entries_of_the_explanation(troubles, page, configured):
    number = troubles.rejected(runs=12)
    with reading(troubles.engine) as conn:
        explained = explain_view(conn, configured.rules, number, now=NOW)
    assert list(steps(explained)) == page(number).steps


def test_actions_and_changes_of_items_are_steps_too():
    sent = SentMessage(
        kind="acknowledged", channel="oncall", created_at=NOW + 5 * MINUTE, status="sent", sent_at=NOW + 5 * MINUTE,
        attempts=2, error="HTTP 503",
    )  # fmt: skip
    events = (
        TimelineEvent(at=NOW, kind="opened", reason="at once", run_id=0, data={}),
        TimelineEvent(at=NOW, kind="joined", reason="3 items joined", run_id=0, data={"count": 3}),
        TimelineEvent(at=NOW, kind="silenced", reason="silence 3", run_id=0),
        TimelineEvent(at=NOW + 5 * MINUTE, kind="acknowledged", reason="by ana"),
    )
    data = explain_data(
        [run(0, 3, cause=Cause.ITEMS_FAILED), *(run(n, 3, cause=Cause.ITEMS_FAILED) for n in range(1, 9))],
        *events,
        cause=Cause.ITEMS_FAILED,
        sent_messages=[sent],
    )
    opened, quiet, acted, *_ = steps(data)
    assert opened.notes == ("3 items joined", "silenced: silence 3")
    assert opened.sent_nothing
    assert (quiet.runs, quiet.seen, quiet.progress, quiet.matters) == ("runs 1–5", "5 runs", "3 items affected", False)
    assert (acted.kind, acted.runs, acted.matters) == ("acknowledged", None, True)
    assert [(each.failed, each.error) for each in acted.messages] == [(True, "HTTP 503")]


def test_of_very_many_steps_those_in_the_middle_are_left_out(troubles, page, monkeypatch):
    monkeypatch.setattr(pages, "MAX_STEPS", 2)
    found = page(troubles.rejected(runs=8))
    assert len(found.steps) == 2
    assert (found.left_out, found.left_out_after) == (len(list(steps(found.explained))) - 2, 1)


def test_a_long_incident_says_that_not_all_runs_are_replayed(troubles, page, monkeypatch):
    number = troubles.rejected(runs=8)
    assert not page(number).runs_cut
    assert not page(number).drawn
    incident, runs = page(number).incident, page(number).explained.history.runs
    during = [run.run_id for run in runs if run.at >= incident.first_evidence_at]
    monkeypatch.setattr(pages, "MAX_RUNS", 5)
    whole = [run.run_id for run in page(number).drawn]
    assert page(number).runs_cut
    assert whole == during
    monkeypatch.setattr(pages, "_MAX_DRAWN", 3)
    some = [run.run_id for run in page(number).drawn]
    assert (some, len(some), some[-1]) == (sorted(set(some) & set(whole)), 3, whole[-1])


def test_related_incidents_are_named_with_their_relation(troubles, page):
    hours = timedelta(hours=1)
    before = troubles.resolved(
        first_evidence_at=NOW - 9 * hours, opened_at=NOW - 9 * hours, resolved_at=NOW - 8 * hours
    )
    start = NOW - 2 * hours
    for n in range(3):
        troubles.run_with(
            start + n * MINUTE,
            Evidence(cause=Cause.UNAUTHORIZED, count=1),
            Evidence(cause=Cause.ITEMS_MISSING, count=1, inhibited_by=Cause.UNAUTHORIZED),
        )
    number = troubles.resolved(first_evidence_at=start, opened_at=start, resolved_at=NOW - hours)
    missing = troubles.opened(cause=Cause.ITEMS_MISSING, first_evidence_at=start - hours)
    elsewhere = troubles.opened(cause=Cause.ITEMS_STUCK, first_evidence_at=start)
    later = troubles.opened(first_evidence_at=NOW)
    troubles.opened(cause=Cause.OUTAGE, target="other", first_evidence_at=start)
    found = page(number)
    assert {each.id: each.relation for each in found.related} == {
        before: Relation.PREVIOUS,
        later: Relation.NEXT,
        missing: Relation.INHIBITS,
        elsewhere: Relation.SAME_TIME,
    }
    assert found.inhibited == [Cause.ITEMS_MISSING]
    assert {each.id: each.relation for each in page(missing).related}[number] is Relation.INHIBITED_BY
