"""Incidents per group, and what happens to them when the rule changes."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from incidents.test_evaluate import FAILED, MINUTE, MISSING, SCOPE, STUCK, Site, actions
from sqlalchemy import delete, select, text
from support.samples import NOW
from support.scale import examples

from monitor.database.engine import reading, writing
from monitor.database.tables import evidence, incident_events, items, notifications, runs
from monitor.database.tables import incidents as incident_rows
from monitor.incidents import store as incidents
from monitor.incidents.decide import Action, DecisionReason
from monitor.incidents.rulebook import DEFAULT_RULES, GroupBy
from monitor.model import ITEM_CAUSES, Evidence, IncidentState, RunStatus


class Rooms(Site):
    """A target whose rules can switch between one incident per group and one per target."""

    def keep(self, by, **changes):
        rules = {cause: replace(DEFAULT_RULES[cause], by=by, **changes) for cause in ITEM_CAUSES}
        self.evaluator = replace(self.evaluator, rules={**DEFAULT_RULES, **rules})

    @property
    def open(self):
        """Group to the members of its open incident."""
        found = [each for each in self.incidents if each.state is not IncidentState.RESOLVED]
        assert len({each.key for each in found}) == len(found)
        return {each.group: self.members(each.id) for each in found}

    def of(self, group):
        (mine,) = [each for each in self.incidents if each.group == group]
        return mine


@pytest.fixture
def rooms(engine):
    made = Rooms(engine)
    made.keep(GroupBy.GROUP)
    return made


def test_each_group_and_items_without_a_group_have_their_own_incident(rooms):
    rooms.put("s1", "s2", group_name="sermons")
    rooms.put("l1", group_name="letters")
    rooms.put("x", "y")
    rooms.put("z", group_name="")
    verdict = rooms.run()
    assert [(change.incident.group, change.decision.action) for change in verdict.changes] == [
        ("", Action.OPEN), ("letters", Action.OPEN), ("sermons", Action.OPEN),
    ]  # fmt: skip
    assert rooms.open == {"": ["x", "y", "z"], "letters": ["l1"], "sermons": ["s1", "s2"]}
    assert rooms.of("sermons").evidence == Evidence(cause=FAILED, group="sermons", count=2, sample_ids=("s1", "s2"))
    titles = [message.title for message, _ in rooms.messages]
    assert titles == [
        "gloo: 3 documents failed to ingest",
        "gloo (letters): 1 document failed to ingest",
        "gloo (sermons): 2 documents failed to ingest",
    ]
    assert [message.group for message, _ in rooms.messages] == ["", "letters", "sermons"]


def test_a_group_is_routed_by_its_name_and_a_target_by_the_groups_of_its_items(rooms):
    rooms.put("s1", group_name="sermons")
    rooms.put("x")
    rooms.run()
    assert [asked["group"] for asked in rooms.asked_to_route] == [(), ("sermons",)]
    rooms.keep(GroupBy.TARGET)
    rooms.put("m1", state="not_found", group_name="letters")
    rooms.put("m2", "m3", state="not_found", group_name="faq")
    rooms.put("m4", state="not_found")
    rooms.run()
    assert rooms.asked_to_route[-1]["group"] == ("faq", "letters")


def test_each_group_resolves_on_its_own(rooms):
    rooms.put("s1", group_name="sermons")
    rooms.put("l1", group_name="letters")
    rooms.run()
    rooms.change("l1", state="completed")
    verdict = rooms.run()
    assert [(change.incident.group, change.decision.action) for change in verdict.changes] == [
        ("letters", Action.RESOLVE), ("sermons", Action.CONTINUE),
    ]  # fmt: skip
    assert rooms.open == {"sermons": ["s1"]}
    assert rooms.run(status=RunStatus.PARTIAL).changes[0].decision.action is Action.CONTINUE
    rooms.change("l1", state="failed")
    verdict = rooms.run()
    assert [change.decision.action for change in verdict.changes] == [Action.REOPEN, Action.CONTINUE]
    assert rooms.open == {"letters": ["l1"], "sermons": ["s1"]}


def test_new_members_join_the_incident_of_their_group(rooms):
    rooms.put("s1", group_name="sermons")
    rooms.put("l1", group_name="letters")
    rooms.run()
    rooms.put("s2", group_name="sermons")
    rooms.now += 40 * MINUTE
    assert [(change.incident.group, change.decision.action) for change in rooms.run().changes] == [
        ("letters", Action.CONTINUE), ("sermons", Action.UPDATE),
    ]  # fmt: skip
    assert rooms.open == {"letters": ["l1"], "sermons": ["s1", "s2"]}
    assert rooms.messages[-1][0].title == "gloo (sermons): 2 documents failed to ingest: more documents affected"


def test_evaluating_again_without_changes_sends_nothing(rooms):
    rooms.put("s1", group_name="sermons")
    rooms.put("x")
    rooms.run()
    before = len(rooms.messages)
    verdict = rooms.run()
    assert {change.decision.action for change in verdict.changes} == {Action.CONTINUE}
    assert (verdict.evidence, len(rooms.messages)) == ((), before)


def test_an_item_that_changed_its_group_moves_to_the_incident_of_that_group(rooms):
    rooms.put("s1", "s2", "s3", group_name="sermons")
    rooms.run()
    rooms.change("s1", group_name="letters")
    rooms.change("s2", group_name=None)
    rooms.change("s3", group_name="letters", state="unknown")
    rooms.run()
    assert rooms.open == {"sermons": ["s3"], "letters": ["s1"], "": ["s2"]}, "s3 is unknown"


def test_each_group_opens_after_its_own_runs(rooms):
    rooms.keep(GroupBy.GROUP, runs=2, of=2)
    rooms.run()
    rooms.put("s1", group_name="sermons")
    assert rooms.run().changes == ()
    rooms.put("l1", group_name="letters")
    assert [change.incident.group for change in rooms.run().changes] == ["sermons"]
    assert [change.incident.group for change in rooms.run().changes] == ["letters", "sermons"]


def test_inhibited_evidence_opens_nothing_in_any_group(rooms):
    rooms.put("a", state="not_found", group_name="sermons")
    rooms.put("b", state="not_found", group_name="letters")
    verdict = rooms.run(Evidence(cause=SCOPE, count=5))
    assert [(piece.group, piece.inhibited_by) for piece in verdict.evidence if piece.cause is MISSING] == [
        ("letters", SCOPE), ("sermons", SCOPE),
    ]  # fmt: skip
    assert actions(verdict) == [(SCOPE, Action.OPEN)]


def test_statuses_are_counted_by_group(rooms):
    slow = {"state": "pending", "pending_since": NOW - 60 * MINUTE}
    rooms.put("a", "b", stage="QUEUED", group_name="sermons", **slow)
    rooms.put("c", stage="CHUNKING", group_name="sermons", **slow)
    for n in range(12):
        rooms.put(f"l{n:02}", stage=f"S{n:02}", group_name="letters", **slow)
    verdict = rooms.run()
    seen = {piece.group: piece for piece in verdict.evidence}
    assert seen["sermons"].breakdown == {"QUEUED": 2, "CHUNKING": 1}
    assert seen["letters"].breakdown == {**{f"S{n:02}": 1 for n in range(10)}, "other statuses": 2}
    assert (seen["letters"].count, len(seen["letters"].sample_ids)) == (12, 10)
    assert actions(verdict) == [(STUCK, Action.OPEN)] * 2


def test_an_incident_of_the_target_stays_open_when_the_rule_changes_to_groups(rooms):
    rooms.keep(GroupBy.TARGET)
    rooms.put("s1", group_name="sermons")
    rooms.put("x")
    rooms.run()
    rooms.keep(GroupBy.GROUP)
    rooms.put("s2", group_name="sermons")
    rooms.put("y")
    rooms.run()
    assert rooms.open == {"": ["s1", "x", "y"], "sermons": ["s2"]}
    rooms.change("x", "y", state="completed")
    rooms.run()
    assert rooms.open == {"": ["s1"], "sermons": ["s2"]}
    rooms.change("s1", state="completed")
    rooms.run()
    assert rooms.open == {"sermons": ["s2"]}
    rooms.change("s1", state="failed")
    rooms.run()
    assert rooms.open == {"sermons": ["s1", "s2"]}


def test_incidents_of_groups_stay_open_when_the_rule_changes_to_the_target(rooms):
    rooms.put("s1", group_name="sermons")
    rooms.put("l1", group_name="letters")
    rooms.run()
    rooms.keep(GroupBy.TARGET)
    rooms.put("s2", group_name="sermons")
    rooms.now += 40 * MINUTE
    rooms.run()
    assert rooms.open == {"": ["s2"], "letters": ["l1"], "sermons": ["s1"]}
    rooms.change("s1", "l1", state="completed")
    verdict = rooms.run()
    resolved = [
        change.incident.group
        for change in verdict.changes
        if change.decision.reason is DecisionReason.MEMBERS_RECOVERED
    ]
    assert resolved == ["letters", "sermons"]
    rooms.change("s1", state="failed")
    rooms.run()
    assert rooms.open == {"": ["s1", "s2"]}, "no incident reopens for a group"


def wiped(engine):
    with writing(engine) as conn:
        for table in (items, notifications, incident_events, incident_rows, evidence, runs):
            conn.execute(delete(table))


BAD = st.sampled_from(["failed", "not_found", "invalid", "completed", "pending", "unknown"])
GROUPS = st.sampled_from([None, "a", "b", "c"])
TURN = st.tuples(
    st.dictionaries(st.sampled_from("uvwxyz"), st.tuples(BAD, GROUPS), max_size=4),
    st.sampled_from([GroupBy.TARGET, GroupBy.GROUP]),
    st.sampled_from([RunStatus.COMPLETE, RunStatus.COMPLETE, RunStatus.PARTIAL]),
)


def bad_items(engine):
    with reading(engine) as conn:
        rows = conn.execute(select(items.c.item_id, items.c.state, items.c.incident_id)).all()
    return {row.item_id: row.incident_id for row in rows if row.state in {"failed", "not_found", "invalid"}}


@given(st.lists(TURN, min_size=1, max_size=6))
@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_bad_item_belongs_to_exactly_one_open_incident_after_any_change_of_rules(engine, turns):
    wiped(engine)
    rooms = Rooms(engine)
    rooms.put(*"uvwxyz", state="completed", seen_at=NOW)
    for changes, by, status in turns:
        for item_id, (state, group) in changes.items():
            rooms.change(item_id, state=state, group_name=group)
        rooms.keep(by)
        rooms.run(status=status)
        found = {each.id: each for each in rooms.incidents if each.state is not IncidentState.RESOLVED}
        assert len({each.key for each in found.values()}) == len(found)
        members = {each: rooms.members(each) for each in found}
        assert all(found[incident_id] for incident_id in bad_items(engine).values())
        assert all(each.member_count == len(members[each.id]) for each in found.values())
        assert sorted(item_id for named in members.values() for item_id in named) == sorted(
            item_id for item_id, incident_id in every_item(engine).items() if incident_id is not None
        )


def every_item(engine):
    with reading(engine) as conn:
        return {row.item_id: row.incident_id for row in conn.execute(select(items.c.item_id, items.c.incident_id))}


@given(st.lists(st.dictionaries(st.sampled_from("uvwxyz"), st.tuples(BAD, GROUPS)), min_size=1, max_size=4))
@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_groups_together_have_the_members_that_the_target_would_have(engine, turns):
    members = {}
    for by in GroupBy:
        wiped(engine)
        rooms = Rooms(engine)
        rooms.keep(by)
        rooms.put(*"uvwxyz", state="completed", seen_at=NOW)
        members[by] = []
        for changes in turns:
            for item_id, (state, group) in changes.items():
                rooms.change(item_id, state=state, group_name=group)
            rooms.run()
            found = [each for each in rooms.incidents if each.state is not IncidentState.RESOLVED]
            belongs = {(each.cause, item_id) for each in found for item_id in rooms.members(each.id)}
            members[by].append(belongs)
            if by is GroupBy.GROUP:
                groups = {item_id: each.group for each in found for item_id in rooms.members(each.id)}
                assert_own(engine, groups)
    assert members[GroupBy.TARGET] == members[GroupBy.GROUP]


def assert_own(engine, groups):
    """Each member is of its incident's group, except unknown ones.

    An incident without a group may be one of the whole target, from before the rule changed; it keeps its members.
    """
    with reading(engine) as conn:
        for row in conn.execute(select(items.c.item_id, items.c.group_name, items.c.state)):
            if row.item_id in groups and row.state != "unknown":
                assert groups[row.item_id] in {row.group_name or "", ""}


def waits(engine):
    """Whether a session waits for a lock. SQLite does not show it; there, writers queue anyway."""
    if engine.dialect.name == "sqlite":
        return True
    with engine.connect() as conn:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return conn.execute(text(waiting)).scalar_one() > 0


def test_an_acknowledgement_in_another_process_is_not_overwritten_by_a_run(rooms):
    rooms.put("s1", group_name="sermons")
    rooms.run()
    running = threading.Thread(target=rooms.run)
    with writing(rooms.engine) as conn:
        (mine,) = incidents.current(conn, target="gloo", resolved_since=NOW).values()
        acknowledged = replace(mine, state=IncidentState.ACKNOWLEDGED, acknowledged_by="ann", acknowledged_at=NOW)
        incidents.save(conn, acknowledged)
        running.start()
        until_s = time.monotonic() + 60
        while not waits(rooms.engine):
            assert time.monotonic() < until_s, "the run does not wait"
            time.sleep(0.005)
    running.join()
    assert (rooms.of("sermons").state, rooms.of("sermons").acknowledged_by) == (IncidentState.ACKNOWLEDGED, "ann")
    rooms.now += timedelta(days=2)
    assert actions(rooms.run()) == [(FAILED, Action.CONTINUE)]
