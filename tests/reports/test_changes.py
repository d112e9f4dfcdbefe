from datetime import timedelta

import pytest
from database.history import DAY, HOUR, MINUTE, Past
from support.samples import NOW, incident

from monitor.database.engine import reading, writing
from monitor.incidents import store as incidents
from monitor.model import Cause, IncidentState, RunStatus
from monitor.reports import changes
from monitor.reports import changes as reports
from monitor.reports.changes import ItemsChanged, Told


@pytest.fixture
def past(engine):
    return Past(engine)


def ask(engine, question, **arguments):
    with reading(engine) as conn:
        return question(conn, **arguments)


def changed(engine, after, upto, samples=3):
    found = ask(engine, changes.items_changed, target="gloo", after=after, upto=upto, samples=samples)
    return {each.what: each for each in found}


def test_the_runs_after_one_are_counted_by_how_they_ended(engine, past):
    first = past.run(NOW)
    assert ask(engine, changes.runs_made, target="gloo", after=first) is None
    past.run(NOW + HOUR)
    past.run(NOW + 2 * HOUR, RunStatus.UNREAD)
    last = past.run(NOW + 3 * HOUR)
    past.run(NOW + 4 * HOUR, RunStatus.RUNNING)
    past.run(NOW + 5 * HOUR, target="other")
    made = ask(engine, changes.runs_made, target="gloo", after=first)
    assert dict(made.by_status) == {RunStatus.COMPLETE: 2, RunStatus.UNREAD: 1}
    assert (made.first_started_at, made.last_finished_at) == (NOW + HOUR, NOW + 3 * HOUR + MINUTE)
    assert made.last_run_id == last


def test_the_run_before_a_moment_and_when_it_was_counted(engine, past):
    first = past.run(NOW)
    past.run(NOW + HOUR, RunStatus.UNREAD)
    third = past.run(NOW + 2 * HOUR)
    assert [ask(engine, changes.run_before, target="gloo", at=NOW + n * HOUR) for n in (0, 1, 3)] == [0, first, third]
    counted = [ask(engine, changes.counted_at, target="gloo", upto=n) for n in (0, first, first + 1, third)]
    assert counted == [None, NOW + MINUTE, NOW + MINUTE, NOW + 2 * HOUR + MINUTE]


def test_an_item_counts_under_what_holds_of_it_now(engine, past):
    told, first, last = (past.run(NOW + n * MINUTE) for n in range(3))
    past.item("a", "completed")
    past.event("a", first, old="pending", new="failed", at=NOW)
    past.event("a", last, old="failed", new="completed", at=NOW)
    past.event("a", last, old="pending", new="completed", at=NOW)
    past.item("b", "unknown", known_state="failed")
    past.event("b", last, old=None, new="failed", at=NOW)
    past.item("c", "completed")
    past.event("c", last, old="QUEUED", new="completed", at=NOW, kind="stage")
    assert changed(engine, told, last) == {
        "completed": ItemsChanged(what="completed", count=1, sample_ids=("a",)),
        "failed": ItemsChanged(what="failed", count=1, sample_ids=("b",)),
    }


def test_items_that_left_the_log_or_came_back_are_counted_unless_that_was_undone(engine, past):
    told, last = past.run(NOW), past.run(NOW + MINUTE)
    past.item("gone", removed_at=NOW)
    past.item("back")
    past.item("ignored", "failed", ignored_at=NOW)
    for item_id, kinds in {"gone": ("removed",), "back": ("removed", "returned")}.items():
        for kind in kinds:
            past.event(item_id, last, old=None, new=None, at=NOW, kind=kind)
    past.event("gone", last, old=None, new="completed", at=NOW)
    past.event("ignored", last, old=None, new="failed", at=NOW)
    assert {what: each.sample_ids for what, each in changed(engine, told, last).items()} == {
        "removed": ("gone",),
        "returned": ("back",),
    }


def test_only_the_runs_of_the_target_after_one_and_up_to_another_count_and_few_ids_are_named(engine, past):
    owners = ("gloo", "gloo", "other", "gloo", "gloo")
    runs = [past.run(NOW + n * MINUTE, target=target) for n, target in enumerate(owners)]
    for n, (target, run_id) in enumerate(zip(owners, runs, strict=True)):
        past.item(f"i{n}", "failed", target=target)
        past.event(f"i{n}", run_id, old=None, new="failed", at=NOW, target=target)
    past.item("by hand", "failed")
    past.event("by hand", 0, old=None, new="failed", at=NOW)
    upto = runs[3]
    assert changed(engine, 0, upto)["failed"] == ItemsChanged(what="failed", count=3, sample_ids=("i0", "i1", "i3"))
    assert changed(engine, 0, upto, samples=1)["failed"] == ItemsChanged(what="failed", count=3, sample_ids=("i0",))
    assert changed(engine, runs[4], runs[4] + 9) == {}


def test_items_are_new_when_they_were_first_read_in_those_runs(engine, past):
    for n in range(4):
        past.item(f"i{n}", first_seen_at=NOW + n * HOUR)
    past.item("gone", first_seen_at=NOW + HOUR, removed_at=NOW + 2 * HOUR)
    assert ask(engine, changes.items_new, target="gloo", start=NOW + HOUR, end=NOW + 2 * HOUR) == 2


def test_items_become_stuck_when_their_patience_runs_out_in_between(engine, past):
    for minutes in (10, 30, 40, 90):
        past.item(f"i{minutes}", "pending", pending_since=NOW - minutes * MINUTE)
    past.item("done", "completed", pending_since=NOW - 40 * MINUTE)
    span = {"after": NOW - 20 * MINUTE, "upto": NOW, "stuck_after": timedelta(minutes=30)}
    assert ask(engine, changes.become_stuck, target="gloo", **span) == 1


@pytest.fixture
def case(engine):
    """Stores an incident with events of these kinds; gives back its id."""

    def case(*kinds, at=NOW, **fields):
        with writing(engine) as conn:
            number = incidents.open_incident(conn, incident(**fields), evidence_id=None)
            for kind in kinds:
                incidents.add_event(conn, incident_id=number, run_id=None, at=at, kind=kind, reason="because")
        return number

    return case


def turned(engine, *, of="gloo-prod", not_of=(), after=0, since=None, limit=9):
    arguments = {"of": of, "not_of": not_of, "after": after, "since": since, "limit": limit}
    total, found = ask(engine, changes.incident_changes, **arguments)
    return total, [(each.id, sorted(each.kinds)) for each in found]


def test_incidents_that_opened_or_resolved_are_told_the_newest_first(engine, case):
    one = case("opened", "updated", "resolved", state=IncidentState.RESOLVED)
    two = case("opened", "reminded", cause=Cause.OUTAGE)
    case("reminded", cause=Cause.RATE_LIMITED)
    case("opened", target="channel:mail")
    assert turned(engine) == (2, [(two, ["opened"]), (one, ["opened", "resolved"])])
    assert turned(engine, limit=1) == (2, [(two, ["opened"])])
    (found,) = ask(engine, changes.incident_changes, of="gloo-prod", after=3, since=None, limit=9)[1]
    assert (found.cause, found.state, found.target) == (Cause.OUTAGE, IncidentState.OPEN, "gloo-prod")


def test_incidents_of_none_of_the_targets_are_told_apart(engine, case):
    case("opened")
    elsewhere = case("opened", target="channel:mail")
    assert turned(engine, of=None, not_of=["gloo-prod"]) == (1, [(elsewhere, ["opened"])])


def test_what_was_told_already_is_not_told_again(engine, case):
    assert ask(engine, changes.last_event) == 0
    case("opened", at=NOW - DAY)
    last = ask(engine, changes.last_event)
    assert turned(engine, after=last) == (0, [])
    assert turned(engine, since=NOW - HOUR) == (0, [])
    assert turned(engine, since=NOW - 2 * DAY)[0] == 1


def test_how_far_a_report_told_is_remembered_per_target_in_place_of_the_one_before(engine):
    first, second = (Told(made_at=NOW + n * HOUR, last_run_id=n, last_incident_event_id=9) for n in (1, 2))
    assert ask(engine, reports.last_told, target="gloo") is None
    with writing(engine) as conn:
        for told in (first, second):
            reports.remember(conn, target="gloo", told=told)
        reports.remember(conn, target=reports.ELSEWHERE, told=first)
    assert ask(engine, reports.last_told, target="gloo") == second
    assert ask(engine, reports.last_told, target=reports.ELSEWHERE) == first
