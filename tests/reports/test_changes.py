import pytest
from database.history import DAY, HOUR, MINUTE, HistoryBuilder
from support.samples import NOW, incident
from support.statements import Recorder, analyse, postgres_plan, rows_read
from support.years import Years

from monitor.database.engine import reading, writing
from monitor.incidents import store as incidents
from monitor.model import Cause, IncidentState, RunStatus
from monitor.reports import changes
from monitor.reports import changes as reports
from monitor.reports.changes import ItemChangeCount, ReportCursor


@pytest.fixture
def history(engine):
    return HistoryBuilder(engine)


def ask(engine, question, **arguments):
    with reading(engine) as conn:
        return question(conn, **arguments)


def changed(engine, after, upto, samples=3):
    found = ask(engine, changes.count_item_changes, between={"gloo": (after, upto)}, samples=samples)
    return {each.to: each for each in found.get("gloo", ())}


def test_later_runs_are_counted_by_status(engine, history):
    first = history.run(NOW)
    assert ask(engine, changes.count_runs, after={"gloo": first}) == {}
    history.run(NOW + HOUR)
    history.run(NOW + 2 * HOUR, RunStatus.FAILED)
    last = history.run(NOW + 3 * HOUR)
    history.run(NOW + 4 * HOUR, RunStatus.RUNNING)
    history.run(NOW + 5 * HOUR, target="other")
    made = ask(engine, changes.count_runs, after={"gloo": first})["gloo"]
    assert dict(made.by_status) == {RunStatus.COMPLETE: 2, RunStatus.FAILED: 1}
    assert (made.first_started_at, made.last_finished_at) == (NOW + HOUR, NOW + 3 * HOUR + MINUTE)
    assert made.last_run_id == last


def test_the_last_run_before_a_time_is_found(engine, history):
    first = history.run(NOW)
    history.run(NOW + HOUR, RunStatus.FAILED)
    third = history.run(NOW + 2 * HOUR)
    earlier = [ask(engine, changes.runs_before, targets=["gloo"], at=NOW + n * HOUR)["gloo"] for n in (0, 1, 3)]
    assert earlier == [0, first, third]
    upto = (0, first, first + 1, third)
    counted = [ask(engine, changes.last_snapshots_at, upto={"gloo": n}).get("gloo") for n in upto]
    assert counted == [None, NOW + MINUTE, NOW + MINUTE, NOW + 2 * HOUR + MINUTE]


def test_a_changed_item_counts_under_its_present_state(engine, history):
    cursor, first, last = (history.run(NOW + n * MINUTE) for n in range(3))
    history.item("a", "completed")
    history.event("a", first, old="pending", new="failed", at=NOW)
    history.event("a", last, old="failed", new="completed", at=NOW)
    history.event("a", last, old="pending", new="completed", at=NOW)
    history.item("b", "unknown", known_state="failed")
    history.event("b", last, old=None, new="failed", at=NOW)
    history.item("c", "completed")
    history.event("c", last, old="QUEUED", new="completed", at=NOW, kind="stage")
    assert changed(engine, cursor, last) == {
        "completed": ItemChangeCount(to="completed", count=1, sample_ids=("a",)),
        "failed": ItemChangeCount(to="failed", count=1, sample_ids=("b",)),
    }


def test_removed_and_returned_items_are_counted_unless_that_was_undone(engine, history):
    cursor, last = history.run(NOW), history.run(NOW + MINUTE)
    history.item("gone", removed_at=NOW)
    history.item("back")
    history.item("ignored", "failed", ignored_at=NOW)
    for item_id, kinds in {"gone": ("removed",), "back": ("removed", "returned")}.items():
        for kind in kinds:
            history.event(item_id, last, old=None, new=None, at=NOW, kind=kind)
    history.event("gone", last, old=None, new="completed", at=NOW)
    history.event("ignored", last, old=None, new="failed", at=NOW)
    assert {change: each.sample_ids for change, each in changed(engine, cursor, last).items()} == {
        "removed": ("gone",),
        "returned": ("back",),
    }


def test_only_the_runs_of_the_target_in_the_range_count(engine, history):
    owners = ("gloo", "gloo", "other", "gloo", "gloo")
    runs = [history.run(NOW + n * MINUTE, target=target) for n, target in enumerate(owners)]
    for n, (target, run_id) in enumerate(zip(owners, runs, strict=True)):
        history.item(f"i{n}", "failed", target=target)
        history.event(f"i{n}", run_id, old=None, new="failed", at=NOW, target=target)
    history.item("by hand", "failed")
    history.event("by hand", 0, old=None, new="failed", at=NOW)
    upto = runs[3]
    assert changed(engine, 0, upto)["failed"] == ItemChangeCount(to="failed", count=3, sample_ids=("i0", "i1", "i3"))
    assert changed(engine, 0, upto, samples=1)["failed"] == ItemChangeCount(to="failed", count=3, sample_ids=("i0",))
    assert changed(engine, runs[4], runs[4] + 9) == {}


def test_items_first_read_in_those_runs_are_new(engine, history):
    for n in range(4):
        history.item(f"i{n}", first_seen_at=NOW + n * HOUR)
    history.item("gone", first_seen_at=NOW + HOUR, removed_at=NOW + 2 * HOUR)
    assert ask(engine, changes.count_new_items, seen={"gloo": (NOW + HOUR, NOW + 2 * HOUR)}) == {"gloo": 2}


def test_items_that_passed_stuck_after_in_between_became_stuck(engine, history):
    for minutes in (10, 30, 40, 90):
        history.item(f"i{minutes}", "pending", pending_since=NOW - minutes * MINUTE)
    history.item("done", "completed", pending_since=NOW - 40 * MINUTE)
    ran_out = {"gloo": (NOW - 50 * MINUTE, NOW - 30 * MINUTE)}
    assert ask(engine, changes.count_newly_stuck, ran_out=ran_out) == {"gloo": 1}


@pytest.fixture
def case(engine):
    """Stores an incident with events of these kinds; returns its id."""

    def case(*kinds, at=NOW, **fields):
        with writing(engine) as conn:
            number = incidents.open_incident(conn, incident(**fields), evidence_id=None)
            for kind in kinds:
                incidents.add_event(conn, incident_id=number, run_id=None, at=at, kind=kind, reason="because")
        return number

    return case


def turned(engine, *, of="gloo-prod", not_of=(), after=0, since=None, limit=9):
    if of is None:
        found = ask(engine, changes.incident_changes, not_of=not_of, after=after, since=since, limit=limit)
    else:
        found = ask(engine, changes.incident_changes_by_target, reported={of: (after, since)}, limit=limit)[of]
    total, found = found
    return total, [(each.id, sorted(each.happened)) for each in found]


def test_opened_and_resolved_incidents_are_listed_newest_first(engine, case):
    one = case("opened", "updated", "resolved", state=IncidentState.RESOLVED)
    two = case("opened", "reminded", cause=Cause.OUTAGE)
    case("reminded", cause=Cause.RATE_LIMITED)
    case("opened", target="channel:mail")
    assert turned(engine) == (2, [(two, ["opened"]), (one, ["opened", "resolved"])])
    assert turned(engine, limit=1) == (2, [(two, ["opened"])])
    reported = {"gloo-prod": (3, None)}
    (found,) = ask(engine, changes.incident_changes_by_target, reported=reported, limit=9)["gloo-prod"][1]
    assert (found.cause, found.state, found.target) == (Cause.OUTAGE, IncidentState.OPEN, "gloo-prod")


def test_incidents_of_other_targets_are_listed_separately(engine, case):
    case("opened")
    elsewhere = case("opened", target="channel:mail")
    assert turned(engine, of=None, not_of=["gloo-prod"]) == (1, [(elsewhere, ["opened"])])


def test_changes_that_were_reported_are_not_reported_again(engine, case):
    assert ask(engine, changes.last_event) == 0
    case("opened", at=NOW - DAY)
    last = ask(engine, changes.last_event)
    assert turned(engine, after=last) == (0, [])
    assert turned(engine, since=NOW - HOUR) == (0, [])
    assert turned(engine, since=NOW - 2 * DAY)[0] == 1


def test_the_cursor_of_a_target_is_replaced(engine):
    first, second = (ReportCursor(generated_at=NOW + n * HOUR, last_run_id=n, last_incident_event_id=9) for n in (1, 2))
    assert ask(engine, reports.last_cursors, targets=["gloo"]) == {}
    with writing(engine) as conn:
        for cursor in (first, second):
            reports.save_cursor(conn, target="gloo", cursor=cursor)
        reports.save_cursor(conn, target=reports.NO_TARGET, cursor=first)
    wanted = ["gloo", reports.NO_TARGET, "other"]
    assert ask(engine, reports.last_cursors, targets=wanted) == {"gloo": second, reports.NO_TARGET: first}


def test_changed_items_cost_what_their_own_events_cost_however_many_runs_and_other_events_there_are(
    engine, history, database_kind
):
    first = history.run(NOW - 2 * DAY)
    history.item("a", "completed")
    history.event("a", first, old="pending", new="completed", at=NOW)

    def cost():
        recorder = Recorder()
        engine.dispose()  # only new connections are counted
        with recorder.recording():
            assert changed(engine, 0, 10**9)["completed"].count == 1
        (statement,) = [each for text, each in recorder.statements.items() if "row_number" in text]
        if database_kind == "sqlite":
            return statement.steps
        with writing(engine) as conn:
            analyse(conn)
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")  # on so few rows it would rather read them all
            return sum(rows_read(postgres_plan(conn, statement)).values())

    before = cost()
    with writing(engine) as conn:
        for name, events, first_id in (("gloo", 0, 10_000), ("other", 1, 20_000)):
            Years(targets=(name,), runs=1_000, end=NOW, events_per_run=events, first_id=first_id).fill(conn)
    assert cost() <= before + 100
