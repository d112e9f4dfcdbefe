"""The list of incidents by filters, open ones first, page by page; one incident with a part of its items."""

import pytest
from database.troubles import TroubleBuilder
from support.samples import NOW

from monitor.database.engine import reading
from monitor.model import Cause, IncidentState, Severity
from monitor.reports.incident_views import (
    OPEN_STATES,
    IncidentFilter,
    incident_view,
    incident_view_json,
    incidents_json,
    incidents_view,
    open_first_view,
)


@pytest.fixture
def troubles(engine):
    return TroubleBuilder(engine)


def ids(troubles, view=incidents_view, limit=50, offset=0, **filters):
    with reading(troubles.engine) as conn:
        found = view(conn, IncidentFilter(**filters), limit=limit, offset=offset, now=NOW)
    return [each.id for each in found.incidents], found.total


def test_open_incidents_come_first_and_pages_overlap_nowhere(troubles):
    first = troubles.opened()
    ended = [troubles.resolved(cause=Cause.OUTAGE) for _ in range(3)]
    second = troubles.opened(cause=Cause.FORBIDDEN)
    every = [second, first, *reversed(ended)]
    assert ids(troubles, open_first_view) == (every, 5)
    pages = [ids(troubles, open_first_view, limit=2, offset=offset)[0] for offset in (0, 2, 4, 6)]
    assert pages == [every[:2], every[2:4], every[4:], []]
    assert ids(troubles)[0] == sorted(every, reverse=True)
    assert ids(troubles, open_first_view, states=OPEN_STATES) == ([second, first], 2)
    assert ids(troubles, open_first_view, states=frozenset({IncidentState.RESOLVED}))[0] == ended[::-1]


def test_filters_are_combined(troubles):
    troubles.opened(cause=Cause.OUTAGE, target="other")
    wanted = troubles.opened(cause=Cause.OUTAGE, severity=Severity.WARNING)
    troubles.opened(cause=Cause.FORBIDDEN, severity=Severity.WARNING)
    found = ids(
        troubles,
        target="gloo",
        states=OPEN_STATES,
        causes=frozenset({Cause.OUTAGE}),
        severities=frozenset({Severity.WARNING}),
    )
    assert found == ([wanted], 1)


def test_the_list_as_json_says_how_many_there_are(troubles):
    numbers = [troubles.resolved() for _ in range(3)]
    with reading(troubles.engine) as conn:
        value = incidents_json(incidents_view(conn, IncidentFilter(), limit=2, now=NOW))
    assert (value["total"], value["shown"], value["total_is_minimum"]) == (3, 2, False)
    assert [each["id"] for each in value["incidents"]] == numbers[:0:-1]


def test_an_incident_is_shown_with_a_part_of_its_items(troubles):
    number = troubles.opened(cause=Cause.ITEMS_FAILED, member_count=3)
    for name in "abc":
        troubles.item(name, "failed", incident_id=number, since=NOW)
    with reading(troubles.engine) as conn:
        view = incident_view(conn, number, limit=1, offset=1, now=NOW)
        assert incident_view(conn, number + 1, now=NOW) is None
    value = incident_view_json(view)
    assert (value["members"], value["total"], value["shown"]) == (["b"], 3, 1)
