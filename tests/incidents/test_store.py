from dataclasses import replace
from datetime import timedelta

import pytest
from support.samples import NOW, incident

from monitor.database.engine import reading, writing
from monitor.errors import StoreError
from monitor.incidents import store as incident_store
from monitor.incidents import store as incidents
from monitor.model import Cause, Evidence, IncidentState, Severity, Team
from monitor.runs import store as runs

MINUTE = timedelta(minutes=1)


def open_one(engine, evidence_id=None, **fields):
    with writing(engine) as conn:
        return incidents.open_incident(conn, incident(**fields), evidence_id=evidence_id)


def save(engine, changed, **more):
    with writing(engine) as conn:
        incidents.save(conn, changed, **more)


def find(engine, incident_id):
    with reading(engine) as conn:
        return incidents.find(conn, incident_id)


def listing(engine, **options):
    with reading(engine) as conn:
        return [each.id for each in incidents.list_incidents(conn, **options)]


def seen(engine, **fields):
    """Evidence of a separate run; returns its id."""
    with writing(engine) as conn:
        run_id = runs.start(conn, target="gloo-prod", environment="test", run_key=None, epoch=1, started_at=NOW)
        piece = Evidence(**{"cause": Cause.UNAUTHORIZED, "count": 1, **fields})
        return incident_store.add_evidence(conn, target="gloo-prod", run_id=run_id, at=NOW, pieces=[piece])[piece.key]


def test_an_incident_is_read_as_it_was_stored(engine):
    opened = incident(
        cause=Cause.ITEMS_FAILED, severity=Severity.INFO, team=Team.PIPELINE, last_message_at=NOW, member_count=3,
        peak_count=5, unnotified_count=1, channels=("oncall", "audit"),
    )  # fmt: skip
    with writing(engine) as conn:
        incident_id = incidents.open_incident(conn, opened, evidence_id=None)
    assert find(engine, incident_id) == replace(opened, id=incident_id)
    resolved = replace(
        opened,
        id=incident_id,
        state=IncidentState.RESOLVED,
        resolved_at=NOW + MINUTE,
        member_count=0,
        unnotified_count=0,
    )
    save(engine, resolved)
    assert find(engine, incident_id) == resolved


def test_an_unknown_incident_is_none(engine):
    assert find(engine, 17) is None


def test_an_incident_has_its_newest_evidence(engine):
    piece = Evidence(
        cause=Cause.UNAUTHORIZED, count=40, breakdown={"401 from the token endpoint": 40}, sample_ids=("a", "b"),
        request_ids=("r1",),
        code="invalid_client", api_message="their words",
    )  # fmt: skip
    fields = {name: getattr(piece, name) for name in ("count", "breakdown", "sample_ids", "request_ids", "code")}
    incident_id = open_one(engine, seen(engine, api_message=piece.api_message, **fields))
    stored = find(engine, incident_id)
    assert stored.evidence == piece
    save(engine, stored)
    assert find(engine, incident_id).evidence == piece
    save(engine, stored, evidence_id=seen(engine, count=2))
    assert find(engine, incident_id).evidence.count == 2


def test_an_incident_outlives_its_evidence(engine):
    incident_id = open_one(engine, evidence_id=99)
    assert find(engine, incident_id).evidence is None


@pytest.mark.parametrize("state", [IncidentState.OPEN, IncidentState.ACKNOWLEDGED])
def test_the_database_itself_refuses_a_second_open_incident_of_a_key(engine, state):
    first = open_one(engine, state=state)
    with pytest.raises(StoreError):
        open_one(engine)
    open_one(engine, cause=Cause.OUTAGE)
    open_one(engine, target="another")
    save(engine, replace(find(engine, first), state=IncidentState.RESOLVED, resolved_at=NOW))
    second = open_one(engine)
    with pytest.raises(StoreError):
        save(engine, replace(find(engine, first), state=IncidentState.OPEN, resolved_at=None))
    assert find(engine, first).state is IncidentState.RESOLVED
    assert second > first


def test_current_is_the_open_incident_of_a_cause_else_the_one_resolved_last(engine):
    resolved = {"state": IncidentState.RESOLVED, "resolved_at": NOW}
    open_one(engine, **resolved)
    last_outage = [open_one(engine, cause=Cause.OUTAGE, **resolved) for _ in range(2)][-1]
    still_open = open_one(engine)
    open_one(engine, target="another", cause=Cause.FORBIDDEN)
    open_one(engine, cause=Cause.FORBIDDEN, state=IncidentState.RESOLVED, resolved_at=NOW - timedelta(seconds=1))
    with reading(engine) as conn:
        current = incidents.current(conn, target="gloo-prod", resolved_since=NOW)
    assert {key: each.id for key, each in current.items()} == {
        (Cause.UNAUTHORIZED, ""): still_open,
        (Cause.OUTAGE, ""): last_outage,
    }


def test_each_group_has_its_own_current_incident(engine):
    resolved = {"state": IncidentState.RESOLVED, "resolved_at": NOW}
    about = {"cause": Cause.ITEMS_FAILED}
    open_one(engine, **about, group="faq", **resolved)
    piece = seen(engine, **about, group="faq", count=3)
    faq, blog, whole = (
        open_one(engine, piece, **about, group="faq"),
        *(open_one(engine, **about, group=group) for group in ("blog", "")),
    )
    with writing(engine) as conn:
        current = incidents.current(conn, target="gloo-prod", resolved_since=NOW)
    assert {group: each.id for (_, group), each in current.items()} == {"faq": faq, "blog": blog, "": whole}
    stored = current[Cause.ITEMS_FAILED, "faq"]
    assert (stored.group, stored.evidence) == ("faq", Evidence(**about, group="faq", count=3))
    assert find(engine, faq) == stored
    with pytest.raises(StoreError):
        open_one(engine, **about, group="faq")


def test_incidents_are_listed_newest_first_and_can_be_filtered(engine):
    one = open_one(engine)
    two = open_one(engine, target="another")
    three = open_one(engine, cause=Cause.OUTAGE, state=IncidentState.RESOLVED, resolved_at=NOW)
    assert listing(engine) == [three, two, one]
    assert listing(engine, limit=2) == [three, two]
    assert listing(engine, target="gloo-prod") == [three, one]
    assert listing(engine, target="gloo-prod", open_only=True) == [one]


def test_events_are_listed_in_order(engine):
    mine, other = open_one(engine), open_one(engine, target="another")
    steps = [("opened", {"channels": ["oncall"]}), ("joined", {"count": 3}), ("resolved", None)]
    with writing(engine) as conn:
        for minute, (kind, data) in enumerate(steps):
            at = NOW + minute * MINUTE
            incidents.add_event(conn, incident_id=mine, run_id=minute, at=at, kind=kind, reason=f"{kind}!", data=data)
        incidents.add_event(conn, incident_id=other, run_id=None, at=NOW, kind="opened", reason="other")
    with reading(engine) as conn:
        found = incidents.events(conn, mine)
    assert [(each.kind, each.reason, each.run_id, each.at, each.data) for each in found] == [
        ("opened", "opened!", 0, NOW, {"channels": ["oncall"]}),
        ("joined", "joined!", 1, NOW + MINUTE, {"count": 3}),
        ("resolved", "resolved!", 2, NOW + 2 * MINUTE, {}),
    ]
