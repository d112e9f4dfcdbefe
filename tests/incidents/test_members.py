"""Which items are evidence, and which join and leave incidents, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update
from support.samples import NOW, incident
from support.scale import examples

from monitor.database.engine import reading, writing
from monitor.database.tables import items
from monitor.incidents import members
from monitor.incidents import store as incidents
from monitor.incidents.evidence import MAX_SAMPLES
from monitor.incidents.members import AgeLimits, CurrentMembers, Membership
from monitor.incidents.rulebook import DEFAULT_RULES, GroupBy
from monitor.model import ITEM_CAUSES, Cause, Evidence, ItemState

MINUTE = timedelta(minutes=1)
GLOO = Membership(
    target="gloo", rules=DEFAULT_RULES, age_limits=AgeLimits(stuck_after=30 * MINUTE, missing_after=15 * MINUTE)
)
BY_GROUP = replace(GLOO, rules={cause: replace(DEFAULT_RULES[cause], by=GroupBy.GROUP) for cause in ITEM_CAUSES})
FAILED, MISSING, STUCK = Cause.ITEMS_FAILED, Cause.ITEMS_MISSING, Cause.ITEMS_STUCK
ALONE = Cause.ITEMS_UNVERIFIED
INVALID, REGRESSED, ODD = Cause.ITEMS_INVALID, Cause.ITEMS_REGRESSED, Cause.UNRECOGNISED_STATUS
LONG_AGO = NOW - 60 * MINUTE


@pytest.fixture
def add(engine):
    """Stores an item as a run would."""

    def add(item_id, state, target="gloo", **fields):
        row = {"target": target, "item_id": item_id, "state": state.value, "first_seen_at": LONG_AGO, **fields}
        with writing(engine) as conn:
            conn.execute(insert(items).values(row))

    return add


@pytest.fixture
def change(engine):
    def change(item_id, **fields):
        with writing(engine) as conn:
            conn.execute(update(items).where(items.c.item_id == item_id).values(fields))

    return change


def unassigned_evidence(engine, cause, *, samples=10, target="gloo"):
    with reading(engine) as conn:
        found = replace(GLOO, target=target).target_evidence(conn, cause, now=NOW, samples=samples)
    return (found.count, found.sample_ids) if found else (0, ())


def join(engine, cause, incident_id=7):
    with writing(engine) as conn:
        return GLOO.add(conn, Evidence(cause=cause, count=1), incident_id=incident_id, now=NOW)


def leave(engine, cause):
    with writing(engine) as conn:
        return GLOO.remove_recovered(conn, incident(id=7, cause=cause, target="gloo"), now=NOW)


def current(engine, causes):
    with reading(engine) as conn:
        return members.current(conn, causes)


def count(engine, incident_id=7):
    with reading(engine) as conn:
        return members.counts(conn, target="gloo").get(incident_id, 0)


JUST_NOW = NOW - MINUTE
BAD = [
    ("failed", FAILED, ItemState.FAILED, {}, True),
    ("completed has not failed", FAILED, ItemState.COMPLETED, {}, False),
    ("unknown has not failed", FAILED, ItemState.UNKNOWN, {"known_state": "failed"}, False),
    ("removed from the log", FAILED, ItemState.FAILED, {"removed_at": NOW}, False),
    ("ignored", FAILED, ItemState.FAILED, {"ignored_at": NOW}, False),
    ("member already", FAILED, ItemState.FAILED, {"incident_id": 3}, False),
    ("missing for long", MISSING, ItemState.NOT_FOUND, {"submitted_at": NOW - 16 * MINUTE}, True),
    ("missing, uploaded just now", MISSING, ItemState.NOT_FOUND, {"submitted_at": JUST_NOW}, False),
    ("missing, to the minute", MISSING, ItemState.NOT_FOUND, {"submitted_at": NOW - 15 * MINUTE}, False),
    ("missing, upload time unknown, read long ago", MISSING, ItemState.NOT_FOUND, {}, True),
    ("missing, upload time unknown, read just now", MISSING, ItemState.NOT_FOUND, {"first_seen_at": JUST_NOW}, False),
    ("was there", MISSING, ItemState.NOT_FOUND, {"submitted_at": JUST_NOW, "seen_at": JUST_NOW}, True),
    ("was there and is", MISSING, ItemState.COMPLETED, {"seen_at": JUST_NOW}, False),
    ("pending for long", STUCK, ItemState.PENDING, {"pending_since": NOW - 31 * MINUTE}, True),
    ("pending, to the minute", STUCK, ItemState.PENDING, {"pending_since": NOW - 30 * MINUTE}, False),
    ("pending for a while", STUCK, ItemState.PENDING, {"pending_since": JUST_NOW}, False),
    ("pending since an unknown time", STUCK, ItemState.PENDING, {}, False),
    ("was pending for long", STUCK, ItemState.COMPLETED, {"pending_since": LONG_AGO}, False),
    ("went back to pending", REGRESSED, ItemState.PENDING, {"regressed_at": JUST_NOW}, True),
    ("pending as ever", REGRESSED, ItemState.PENDING, {}, False),
    ("went back, and then unknown", REGRESSED, ItemState.UNKNOWN, {"regressed_at": JUST_NOW}, False),
    ("in an unrecognised status", ODD, ItemState.PENDING, {"recognised": False}, True),
    ("in a known one", ODD, ItemState.PENDING, {}, False),
    ("was in such a status, now unknown", ODD, ItemState.UNKNOWN, {"recognised": False}, False),
    ("a refused id", INVALID, ItemState.INVALID, {}, True),
    ("unanswered alone three times", ALONE, ItemState.UNKNOWN, {"unverified_runs": 3, "reason": "outage"}, True),
    ("unanswered alone twice", ALONE, ItemState.UNKNOWN, {"unverified_runs": 2, "reason": "outage"}, False),
    ("unknown with all others", ALONE, ItemState.UNKNOWN, {"reason": "outage"}, False),
    ("not asked since", ALONE, ItemState.UNKNOWN, {"unverified_runs": 9, "reason": "deadline"}, False),
    ("a 403 of its own", ALONE, ItemState.UNKNOWN, {"unverified_runs": 9, "reason": "forbidden"}, False),
    ("unknown for no known reason", ALONE, ItemState.UNKNOWN, {"unverified_runs": 9}, False),
    ("answered at last", ALONE, ItemState.PENDING, {"unverified_runs": 0}, False),
]


@pytest.mark.parametrize(("cause", "state", "fields", "bad"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_which_items_are_evidence(engine, add, cause, state, fields, bad):
    add("a", state, **fields)
    assert unassigned_evidence(engine, cause) == ((1, ("a",)) if bad else (0, ()))
    assert join(engine, cause) == bad
    assert count(engine) == bad


def test_the_first_few_are_named_and_all_are_counted(engine, add):
    for item_id in ("d", "b", "a", "c"):
        add(item_id, ItemState.FAILED)
    add("a", ItemState.FAILED, target="another")
    assert unassigned_evidence(engine, FAILED, samples=2) == (4, ("a", "b"))
    assert join(engine, FAILED) == 4
    assert unassigned_evidence(engine, FAILED) == (0, ())
    assert unassigned_evidence(engine, FAILED, target="another") == (1, ("a",))


def test_only_causes_of_items_have_members(engine):
    with pytest.raises(ValueError, match="not a cause of items"):
        unassigned_evidence(engine, Cause.OUTAGE)


LEAVING = [
    ("completed", {"state": "completed"}, 1),
    ("in progress again", {"state": "pending"}, 1),
    ("not found: that belongs to another cause", {"state": "not_found"}, 1),
    ("still failed", {"state": "failed"}, 0),
    ("unknown: no information", {"state": "unknown"}, 0),
    ("left the log: needs remove_untracked", {"state": "completed", "removed_at": NOW}, 0),
    ("ignored", {"state": "failed", "ignored_at": NOW}, 0),
]


@pytest.mark.parametrize(("fields", "left"), [each[1:] for each in LEAVING], ids=[each[0] for each in LEAVING])
def test_which_members_recover(engine, add, change, fields, left):
    add("a", ItemState.FAILED)
    add("b", ItemState.FAILED)
    join(engine, FAILED)
    change("a", **fields)
    assert leave(engine, FAILED) == left
    assert count(engine) == 2 - left


def test_a_stuck_item_that_restarted_leaves(engine, add, change):
    add("a", ItemState.PENDING, pending_since=LONG_AGO)
    join(engine, STUCK)
    change("a", pending_since=JUST_NOW)
    assert leave(engine, STUCK) == 1


def test_a_missing_item_that_appears_leaves(engine, add, change):
    add("a", ItemState.NOT_FOUND)
    join(engine, MISSING)
    change("a", state="pending", seen_at=NOW)
    assert leave(engine, MISSING) == 1


def test_items_that_left_the_log_or_are_ignored_leave(engine, add, change, of):
    mine = of("")
    for item_id in "abc":
        add(item_id, ItemState.FAILED)
    join(engine, FAILED, mine)
    change("a", removed_at=NOW)
    change("b", ignored_at=NOW)
    opened = [incident(id=mine, cause=FAILED, target="gloo")]
    with writing(engine) as conn:
        assert GLOO.release(conn, opened, now=NOW, remove_untracked=False) == {}
        assert GLOO.release(conn, opened, now=NOW, remove_untracked=True) == {mine: 2}
        assert GLOO.release(conn, opened, now=NOW, remove_untracked=True) == {}
    assert count(engine, mine) == 1


def test_remove_all_releases_the_members_of_one_incident(engine, add):
    add("a", ItemState.FAILED)
    join(engine, FAILED)
    add("b", ItemState.FAILED)
    join(engine, FAILED, incident_id=8)
    with writing(engine) as conn:
        members.remove_all(conn, incident_id=7)
    assert (count(engine, 7), count(engine, 8)) == (0, 1)
    with reading(engine) as conn:
        assert conn.execute(select(items.c.incident_id).where(items.c.item_id == "a")).scalar_one() is None


def test_an_incident_names_its_first_members(engine, add):
    for number in range(MAX_SAMPLES + 1, 0, -1):
        add(f"p{number:03}", ItemState.PENDING, pending_since=LONG_AGO)
    join(engine, STUCK)
    add("d", ItemState.FAILED, since=NOW)
    join(engine, FAILED, incident_id=8)
    found = current(engine, {7: STUCK, 8: FAILED, 9: FAILED})
    assert found == current(engine, {7: STUCK}) | current(engine, {8: FAILED}) | current(engine, {9: FAILED})
    assert found[7].item_ids == tuple(f"p{number:03}" for number in range(1, MAX_SAMPLES + 1))
    assert found[8].item_ids == ("d",)
    assert found[9] == CurrentMembers()


def test_an_item_that_fits_several_causes_belongs_to_the_first(engine, add):
    back, slow, odd = {"regressed_at": LONG_AGO}, {"pending_since": LONG_AGO}, {"recognised": False}
    add("all", ItemState.PENDING, **back, **slow, **odd)
    add("back-odd", ItemState.PENDING, **back, **odd)
    add("odd", ItemState.PENDING, **odd)
    add("slow-odd", ItemState.PENDING, **slow, **odd)
    expected = {REGRESSED: ("all", "back-odd"), STUCK: ("slow-odd",), ODD: ("odd",)}
    seen = {cause: unassigned_evidence(engine, cause)[1] for cause in ITEM_CAUSES}
    assert {cause: ids for cause, ids in seen.items() if ids} == expected
    assert [join(engine, cause, incident_id=number) for number, cause in enumerate(expected)] == [2, 1, 1]


FIELDS = st.fixed_dictionaries(
    {
        "state": st.sampled_from([state.value for state in ItemState]),
        "regressed_at": st.sampled_from([None, LONG_AGO]),
        "pending_since": st.sampled_from([None, LONG_AGO, JUST_NOW]),
        "recognised": st.booleans(),
        "seen_at": st.sampled_from([None, LONG_AGO]),
        "submitted_at": st.sampled_from([None, LONG_AGO, JUST_NOW]),
        "removed_at": st.sampled_from([None, None, NOW]),
        "unverified_runs": st.sampled_from([0, 1, 3]),
        "reason": st.sampled_from([None, "outage", "deadline"]),
    }
)


@given(st.lists(FIELDS, max_size=12))
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_item_is_evidence_of_two_causes(engine, found):
    with writing(engine) as conn:
        conn.execute(delete(items))
        rows = [{"target": "gloo", "item_id": f"{n:02}", "first_seen_at": NOW, **row} for n, row in enumerate(found)]
        if rows:
            conn.execute(insert(items), rows)
    named = [item_id for cause in ITEM_CAUSES for item_id in unassigned_evidence(engine, cause, samples=20)[1]]
    assert len(named) == len(set(named))
    assert sum(join(engine, cause, incident_id=number) for number, cause in enumerate(ITEM_CAUSES)) == len(named)


def test_unverified_items_are_counted_by_answer_and_name_codes_and_request_ids(engine, add):
    alone = {"unverified_runs": 3, "reason": "outage"}
    add("a", ItemState.UNKNOWN, http_status=500, code="INTERNAL", request_id="r-1", **alone)
    add("b", ItemState.UNKNOWN, http_status=500, code="INTERNAL", request_id="r-2", **alone)
    add("c", ItemState.UNKNOWN, http_status=404, page="404 page not found", **alone | {"reason": "bad_response"})
    add("d", ItemState.UNKNOWN, group_name="faq", **alone)
    with reading(engine) as conn:
        piece = GLOO.target_evidence(conn, ALONE, now=NOW)
        groups = BY_GROUP.group_evidence(conn, ALONE, now=NOW)
    assert piece.breakdown == {"500 INTERNAL": 2, "404": 1, "no answer": 1}
    assert (piece.code, piece.request_ids, piece.page) == ("INTERNAL", ("r-1", "r-2"), "404 page not found")
    assert [(each.group, each.count, each.request_ids) for each in groups] == [("", 3, ("r-1", "r-2")), ("faq", 1, ())]
    assert join(engine, ALONE) == 4
    assert current(engine, {7: ALONE})[7].by_status == dict(piece.breakdown)


def test_a_rule_of_two_runs_takes_an_item_after_two(engine, add):
    add("a", ItemState.UNKNOWN, unverified_runs=2, reason="outage")
    sooner = replace(GLOO, rules={**DEFAULT_RULES, ALONE: replace(DEFAULT_RULES[ALONE], runs=2, of=2)})
    with reading(engine) as conn:
        assert sooner.target_evidence(conn, ALONE, now=NOW).count == 1
        assert GLOO.target_evidence(conn, ALONE, now=NOW) is None


def test_items_in_progress_are_counted_by_status(engine, add):
    for number, stage in enumerate(["QUEUED", "CHUNKING", "QUEUED", None]):
        add(f"s{number}", ItemState.PENDING, pending_since=LONG_AGO, stage=stage)
    add("f", ItemState.FAILED, stage="FAILED")
    with reading(engine) as conn:
        seen = GLOO.target_evidence(conn, STUCK, now=NOW, samples=1)
        failed = GLOO.target_evidence(conn, FAILED, now=NOW, samples=1)
    assert list(seen.breakdown.items()) == [("QUEUED", 2), ("CHUNKING", 1), ("no status", 1)]
    assert (seen.count, seen.sample_ids, failed.breakdown) == (4, ("s0",), {})
    join(engine, STUCK)
    assert current(engine, {7: STUCK})[7].by_status == seen.breakdown
    assert current(engine, {7: FAILED})[7].by_status == {}


@pytest.mark.parametrize(("how_many", "others"), [(10, 0), (12, 2)])
def test_only_ten_statuses_are_named_and_long_ones_are_cut(engine, add, how_many, others):
    for number in range(how_many):
        add(f"i{number:02}", ItemState.PENDING, recognised=False, stage=f"{number:02}" + "x" * 100)
    with reading(engine) as conn:
        seen = GLOO.target_evidence(conn, ODD, now=NOW, samples=1)
    assert seen.breakdown.get("other statuses", 0) == others
    assert sum(seen.breakdown.values()) == seen.count == how_many
    assert "00" + "x" * 58 in seen.breakdown


def test_an_item_with_an_unrecognised_status_leaves_once_it_is_described(engine, add, change):
    add("a", ItemState.PENDING, recognised=False)
    add("b", ItemState.PENDING, recognised=False)
    join(engine, ODD)
    change("a", recognised=True)
    change("b", state="unknown")
    assert leave(engine, ODD) == 1


def test_a_regressed_item_leaves_once_it_is_no_longer_pending(engine, add, change):
    add("a", ItemState.PENDING, regressed_at=LONG_AGO)
    add("b", ItemState.PENDING, regressed_at=LONG_AGO)
    join(engine, REGRESSED)
    change("a", state="completed", regressed_at=None)
    assert leave(engine, REGRESSED) == 1
    assert count(engine) == 1


def leaving(engine, cause=FAILED, *, release=True):
    with reading(engine) as conn:
        return GLOO.incidents_losing_members(conn, cause, now=NOW, remove_untracked=release)


@pytest.fixture
def of(engine):
    """Opens an incident with a group and returns its id."""

    def of(group, cause=FAILED):
        with writing(engine) as conn:
            return incidents.open_incident(conn, incident(target="gloo", cause=cause, group=group), evidence_id=None)

    return of


def test_one_query_finds_the_incidents_that_lose_members(engine, add, change, of):
    for group in ("faq", "blog", ""):
        add(f"{group}-1", ItemState.FAILED, group_name=group)
        add(f"{group}-2", ItemState.FAILED, group_name=group or None)
    faq, blog, whole = (of(group) for group in ("faq", "blog", ""))
    for group, number in (("faq", faq), ("blog", blog), ("", whole)):
        with writing(engine) as conn:
            piece = Evidence(cause=FAILED, group=group, count=1)
            assert BY_GROUP.add(conn, piece, incident_id=number, now=NOW) == 2
    assert leaving(engine) == set()
    change("faq-1", state="completed")
    change("-1", group_name="faq")
    assert leaving(engine) == {faq}, "one of the whole target has members of any group"
    change("blog-1", group_name="faq")
    assert leaving(engine) == {faq, blog}
    change("blog-1", state="unknown")
    assert leaving(engine) == {faq}
    change("-2", ignored_at=NOW)
    assert leaving(engine) == {faq, whole}
    assert leaving(engine, release=False) == {faq}
    assert leaving(engine, MISSING) == set()


def test_the_groups_of_members_are_sorted_by_frequency(engine, add):
    for number, group in enumerate(["faq", "faq", None, "blog", "", "faq"]):
        add(f"i{number}", ItemState.FAILED, group_name=group)
    with reading(engine) as conn:
        assert GLOO.groups(conn, (FAILED, ""), now=NOW) == ("faq", "blog")
    join(engine, FAILED)
    assert list(current(engine, {7: FAILED})[7].by_group.items()) == [("faq", 3), ("", 2), ("blog", 1)]


def test_evidence_by_group_adds_up_to_that_of_the_target(engine, add):
    for number, group in enumerate(["faq", "faq", None, "blog", "", "faq"]):
        add(f"i{number}", ItemState.FAILED, group_name=group)
    with reading(engine) as conn:
        whole = GLOO.target_evidence(conn, FAILED, now=NOW)
        parts = GLOO.group_evidence(conn, FAILED, now=NOW, samples=2)
    assert [(piece.group, piece.count, piece.sample_ids) for piece in parts] == [
        ("", 2, ("i2", "i4")), ("blog", 1, ("i3",)), ("faq", 3, ("i0", "i1")),
    ]  # fmt: skip
    assert sum(piece.count for piece in parts) == whole.count
    with reading(engine) as conn:
        assert GLOO.group_evidence(conn, MISSING, now=NOW) == ()
