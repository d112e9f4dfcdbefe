"""Which rows are deleted by age and which are kept; and that pruning changes no counts."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update
from support.samples import NOW, incident, message
from support.scale import examples

from monitor.database import pruning
from monitor.database.engine import connect, reading, writing
from monitor.database.report_tables import reports
from monitor.database.retention_policy import Ages, Prunable, cutoffs
from monitor.database.tables import (
    evidence,
    incident_events,
    item_events,
    items,
    notifications,
    snapshots,
    wait_totals,
    waits,
)
from monitor.database.tables import incidents as incident_rows
from monitor.database.tables import runs as run_rows
from monitor.incidents import store as incident_store
from monitor.incidents import store as incidents
from monitor.model import Cause, Evidence, IncidentState, RunStatus
from monitor.notifications import outbox
from monitor.notifications.messages import MessageKind, ReportContent, report_message
from monitor.reports import changes, trends
from monitor.runs import store as runs
from monitor.runs import throttle_store

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
COUNTS = (
    "checked",
    "completed",
    "pending",
    "failed",
    "not_found",
    "invalid",
    "unknown",
    "stuck",
    "requests",
    "retries",
)


def run_row(run_id, at, **fields):
    return {
        "id": run_id, "target": "gloo", "environment": "test", "run_key": None, "epoch": run_id, "status": "complete",
        "abort_reason": None, "due": 30, "answered": 30, "started_at": at - MINUTE, "finished_at": at,
        "throttle_factor": 1.0,
        **fields,
    }  # fmt: skip


def snapshot_row(run_id):
    return {"run_id": run_id, "total": 0, "duration_s": 1.0, **dict.fromkeys(COUNTS, 0)}


def write_runs(conn, rows):
    conn.execute(insert(run_rows), rows)
    ended = [row["id"] for row in rows if row["status"] in {"complete", "partial", "aborted"}]
    if ended:
        conn.execute(insert(snapshots), [snapshot_row(run_id) for run_id in ended])


def pruned(engine, kind, *, age, now=NOW, newest=2, limit=7):
    """Prunes one table in small steps; returns the number of deleted rows."""
    before, after, gone = now - age, 0, 0
    with reading(engine) as conn:
        kept = pruning.protected(conn, newest=newest)
    while True:
        with writing(engine) as conn:
            found = pruning.next_batch(conn, kind, after=after, before=before, now=now, limit=limit)
            if found is None:
                return gone
            foreseen = pruning.count(conn, kind, found.ids, before=before, protected=kept)
            went = pruning.prune(conn, kind, found.ids, before=before, protected=kept)
            assert foreseen == went
        gone += went
        if found.reached_recent:
            return gone
        after = found.last_id


def ids(engine, table):
    with reading(engine) as conn:
        return list(conn.execute(select(table.c.id).order_by(table.c.id)).scalars())


def test_old_runs_are_deleted_with_snapshots_and_evidence_except_the_first_and_the_newest(engine):
    with writing(engine) as conn:
        write_runs(conn, [run_row(n, NOW - (500 - n) * DAY) for n in range(1, 121)])
        for n in (1, 50, 119):
            piece = Evidence(cause=Cause.OUTAGE, count=1)
            incident_store.add_evidence(conn, target="gloo", run_id=n, at=NOW, pieces=[piece])
    assert pruned(engine, Prunable.SNAPSHOTS, age=400 * DAY) == 99 - 1
    assert ids(engine, run_rows) == [1, *range(100, 121)]
    with reading(engine) as conn:
        assert sorted(conn.execute(select(snapshots.c.run_id)).scalars()) == [1, *range(100, 121)]
        assert sorted(conn.execute(select(evidence.c.run_id)).scalars()) == [1, 119]
    assert pruned(engine, Prunable.SNAPSHOTS, age=400 * DAY) == 0
    assert pruned(engine, Prunable.SNAPSHOTS, age=31 * DAY, now=NOW + 3000 * DAY) == 21 - 2
    assert ids(engine, run_rows) == [1, 119, 120]


def test_the_newest_runs_of_each_target_and_status_are_kept(engine):
    endings = [("complete", None), ("failed", None), ("aborted", "unauthorized"), ("crashed", None)]
    rows = []
    for target in ("gloo", "docs"):
        for status, reason in endings:
            for _ in range(4):
                number = len(rows) + 1
                rows.append(
                    run_row(
                        number, NOW - 900 * DAY + number * MINUTE, target=target, status=status, abort_reason=reason
                    )
                )
    with writing(engine) as conn:
        write_runs(conn, rows)
    pruned(engine, Prunable.SNAPSHOTS, age=400 * DAY)
    left = [rows[n - 1] for n in ids(engine, run_rows)]
    kinds = [(row["target"], row["status"], row["abort_reason"]) for row in left]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        (target, *outcome): 3 if outcome == endings[0] else 2 for target in ("gloo", "docs") for outcome in endings
    }  # and the first run of each target


def test_a_run_in_progress_is_kept(engine):
    with writing(engine) as conn:
        write_runs(conn, [run_row(n, NOW - 500 * DAY) for n in range(1, 6)])
        conn.execute(insert(run_rows), [run_row(6, NOW - 500 * DAY, status="running") | {"finished_at": None}])
        write_runs(conn, [run_row(n, NOW - 500 * DAY) for n in range(7, 12)])
    pruned(engine, Prunable.SNAPSHOTS, age=400 * DAY)
    assert 6 in ids(engine, run_rows)


def test_runs_that_incidents_and_reports_refer_to_are_kept(engine):
    def at(run_id):
        return NOW - 500 * DAY + run_id * MINUTE

    with writing(engine) as conn:
        write_runs(conn, [run_row(n, at(n)) for n in range(1, 61)])
        seen = {
            n: incident_store.add_evidence(
                conn, target="gloo", run_id=n, at=at(n), pieces=[Evidence(cause=Cause.OUTAGE, count=1)]
            )[Cause.OUTAGE, ""]
            for n in (10, 20, 30, 31, 32)
        }
        over = incident(target="gloo", cause=Cause.OUTAGE, state=IncidentState.RESOLVED, resolved_at=at(12))
        incidents.open_incident(conn, over, evidence_id=seen[10])
        still = incident(target="gloo", cause=Cause.OUTAGE, first_evidence_at=at(30), opened_at=at(32))
        number = incidents.open_incident(conn, still, evidence_id=seen[20])
        incidents.add_event(conn, incident_id=number, run_id=40, at=at(40), kind="reminded", reason="again")
        incidents.add_event(conn, incident_id=1, run_id=11, at=at(11), kind="updated", reason="it is over")
        conn.execute(insert(run_rows), [run_row(61, at(61), status="failed")])
        row = {"generated_at": at(51), "last_incident_event_id": 0}
        conn.execute(
            insert(reports), [{"target": "gloo", "last_run_id": 50, **row}, {"target": "", "last_run_id": 0, **row}]
        )
    pruned(engine, Prunable.SNAPSHOTS, age=400 * DAY)
    assert ids(engine, run_rows) == [1, 10, 20, 30, 31, 32, 40, 50, 59, 60, 61]


def test_item_events_are_deleted_except_the_last_change_of_unfinished_items(engine):
    def event(item_id, at, kind="state", old="pending", new="completed"):
        return {"target": "gloo", "item_id": item_id, "run_id": 1, "at": at, "kind": kind, "old": old, "new": new}

    def item(item_id, known, **fields):
        row = {"target": "gloo", "item_id": item_id, "state": known or "unknown", "known_state": known}
        return row | {"first_seen_at": NOW - 400 * DAY, "removed_at": None, **fields}

    old, reached_recent = NOW - 100 * DAY, NOW - 10 * DAY
    with writing(engine) as conn:
        conn.execute(
            insert(items),
            [
                item("done", "completed"),
                item("bad", "failed"),
                item("back", "pending"),
                item("gone", "failed", removed_at=old),
                item("never", None),
            ],
        )
        conn.execute(
            insert(item_events),
            [
                event("done", old),
                event("bad", old, new="pending"),
                event("bad", old, new="failed"),
                event("bad", old, kind="stage"),
                event("gone", old, new="failed"),
                event("untracked", old),
                event("never", old, kind="stage"),
                event("back", old),
                event("back", old, old="completed", new="pending"),
                event("done", reached_recent),
                event("bad", old, new="failed"),
            ],
        )
    assert pruned(engine, Prunable.ITEM_EVENTS, age=90 * DAY, limit=3) == 8
    assert ids(engine, item_events) == [9, 10, 11]


def test_old_waits_are_deleted_but_not_those_in_progress_nor_their_totals(engine):
    row = {"target": "gloo", "environment": "test", "holder": "h:1", "timeout_s": 60.0, "asked": 0}
    with writing(engine) as conn:
        for age, result in ((90, "completed"), (80, None), (70, "killed"), (1, "timed_out")):
            at = NOW - age * DAY
            conn.execute(insert(waits).values(**row, started_at=at, alive_until=at, result=result))
        conn.execute(insert(wait_totals).values(target="gloo", result="completed", le_s=5, waits=1, seconds=1.0))
    assert pruned(engine, Prunable.WAITS, age=31 * DAY) == 2
    with reading(engine) as conn:
        assert list(conn.execute(select(waits.c.result).order_by(waits.c.id)).scalars()) == [None, "timed_out"]
        assert conn.scalar(select(wait_totals.c.waits)) == 1


def test_delivered_messages_of_long_resolved_incidents_are_deleted_if_none_is_pending(engine):
    def incident_with_messages(state, *statuses, age=100, cause=Cause.OUTAGE, sent_age=None):
        at = NOW - age * DAY
        resolved = at if state is IncidentState.RESOLVED else None
        with writing(engine) as conn:
            subject = incident(target=f"t{at}{state}{statuses}", cause=cause, state=state, resolved_at=resolved)
            number = incidents.open_incident(conn, subject, evidence_id=None)
            for status in statuses:
                outbox.enqueue(conn, message(number, kind=MessageKind.OPENED), channels=["oncall"], now=at)
                newest = select(notifications.c.id).order_by(notifications.c.id.desc()).limit(1).scalar_subquery()
                sent = NOW - (sent_age or age) * DAY if status == "sent" else None
                conn.execute(
                    update(notifications).where(notifications.c.id == newest).values(status=status, sent_at=sent)
                )
            return number

    over, still = IncidentState.RESOLVED, IncidentState.OPEN
    gone = incident_with_messages(over, "sent", "superseded", "sent")
    stays = [
        incident_with_messages(still, "sent"),
        incident_with_messages(IncidentState.ACKNOWLEDGED, "sent"),
        incident_with_messages(over, "sent", "due"),
        incident_with_messages(over, "sent", "dead"),
        incident_with_messages(over, "dead"),
        incident_with_messages(over, "sent", sent_age=1),
        incident_with_messages(over, "sent", age=2),
    ]
    assert pruned(engine, Prunable.NOTIFICATIONS, age=30 * DAY, limit=2) == 3
    with reading(engine) as conn:
        left = list(
            conn.execute(select(notifications.c.incident_id).distinct().order_by(notifications.c.incident_id)).scalars()
        )
        assert incidents.find(conn, gone) is not None
    assert left == stays


def test_delivered_reports_are_deleted_and_others_stay(engine):
    sent = report_message("Report", ReportContent(lines=(), text="", html="", data={}), environment="test", at=NOW)
    with writing(engine) as conn:
        for age, status in ((90, "sent"), (80, "dead"), (70, "due"), (1, "sent")):
            at = NOW - age * DAY
            outbox.enqueue_report(conn, sent, channels=["mail"], name=f"{age}", now=at)
            mine = notifications.c.created_at == at
            conn.execute(update(notifications).where(mine).values(status=status, sent_at=at))
    assert pruned(engine, Prunable.NOTIFICATIONS, age=30 * DAY) == 1
    assert ids(engine, notifications) == [2, 3, 4]


def test_the_clock_is_checked_against_the_runs(engine):
    with reading(engine) as conn:
        assert pruning.newest_run_starts(conn, before=NOW) == (None, None)
    with writing(engine) as conn:
        write_runs(conn, [run_row(n, NOW - n * DAY + MINUTE) for n in range(1, 4)])
    with reading(engine) as conn:
        assert pruning.newest_run_starts(conn, before=NOW - 1.5 * DAY) == (NOW - DAY, NOW - 2 * DAY)
        assert pruning.newest_run_starts(conn, before=NOW - 9 * DAY) == (NOW - DAY, None)


ENDINGS = [("complete", None), ("partial", "deadline"), ("aborted", "outage"), ("crashed", None), ("failed", None)]
STEPS = st.tuples(
    st.sampled_from(["gloo", "docs"]),
    st.sampled_from(ENDINGS),
    st.sets(st.sampled_from([(Cause.OUTAGE, ""), (Cause.RATE_LIMITED, ""), (Cause.ITEMS_FAILED, "manuals")])),
    st.sampled_from([0.003, 0.5, 3, 40]),  # days until the next run
    st.sampled_from([0, 0, 0, 0, -60, 700]),  # days by which the clock is wrong
    st.sampled_from([0.25, 1.0]),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory, _sqlite_template):
    path = tmp_path_factory.mktemp("law") / "monitor.db"
    path.write_bytes(_sqlite_template.read_bytes())
    engine = connect(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def observations(engine, now):
    """Everything that decisions read about past runs."""
    keys = [(cause, "") for cause in (Cause.OUTAGE, Cause.RUN_MISSED)] + [(Cause.ITEMS_FAILED, "manuals")]
    with reading(engine) as conn:
        found = {}
        for target in ("gloo", "docs"):
            last_key = runs.last_run_key(conn, target=target)
            found[target] = (
                {
                    window: incident_store.evidence_points(
                        conn, target=target, keys=keys, since=now - window, at_least=least
                    )
                    for window, least in ((timedelta(minutes=15), 3), (30 * DAY, 2))
                },
                runs.last_runs(conn, targets=[target]).get(target),
                runs.past_runs(conn, target=target),
                runs.last_snapshot(conn, target),
                incident_store.previous_run(conn, target=target, before=10**6),
                last_key,
                trends.newest_runs(conn, targets=[target]),
                last_key and runs.already_executed(conn, target=target, run_key=last_key),
                incidents.current(conn, target=target, resolved_since=NOW - 3000 * DAY),
                incidents.unresolved(conn, targets=[target]),
            )
        reported = [
            changes.last_snapshots_at(conn, upto={"gloo": row.last_run_id}) for row in conn.execute(select(reports))
        ]
        return (
            found,
            reported,
            incidents.list_incidents(conn),
            throttle_store.look_up(conn, origin="", targets=["gloo", "docs"]),
        )


def write_history(engine, history, reported_at):
    true = NOW - 1500 * DAY
    with writing(engine) as conn:
        for table in (notifications, incident_events, incident_rows, evidence, snapshots, run_rows, reports):
            conn.execute(delete(table))
        for number, (target, (status, reason), seen, pause, wrong, throttle_factor) in enumerate(history, 1):
            at = true + wrong * DAY
            # of a history of even length only an old run has a key: it is kept, since a daemon continues after it
            run_key = str(number % 8) if number == 2 or (len(history) % 2 and number > len(history) - 3) else None
            values = {
                "target": target,
                "status": status,
                "abort_reason": reason,
                "run_key": run_key,
                "throttle_factor": throttle_factor,
            }
            write_runs(conn, [run_row(number, at, **values)])
            pieces = [Evidence(cause=cause, group=group, count=1) for cause, group in sorted(seen)]
            stored = incident_store.add_evidence(conn, target=target, run_id=number, at=at, pieces=pieces)
            for key in stored:
                if (target, *key) not in {
                    (row.target, row.cause, row.group_name) for row in conn.execute(select(incident_rows))
                }:
                    state = IncidentState.RESOLVED if number % 2 else IncidentState.OPEN
                    subject = incident(target=target, cause=key[0], group=key[1], state=state, first_evidence_at=at,
                                       opened_at=at, resolved_at=at if number % 2 else None)  # fmt: skip
                    opened = incidents.open_incident(conn, subject, evidence_id=stored[key])
                    incidents.add_event(conn, incident_id=opened, run_id=number, at=at, kind="opened", reason="seen")
            true += pause * DAY
        if reported_at:
            row = {
                "target": "gloo",
                "generated_at": true,
                "last_run_id": min(reported_at, len(history)),
                "last_incident_event_id": 0,
            }
            conn.execute(insert(reports).values(row))
    return true


@given(
    history=st.lists(STEPS, min_size=1, max_size=30), reported_at=st.integers(0, 30), later=st.sampled_from([0, 5, 900])
)
@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pruning_does_not_change_decisions(scratch, history, reported_at, later):
    """For any history and any clock errors, rules, throttle factor, gate and reports see the same as before."""
    now = write_history(scratch, history, reported_at) + later * DAY
    before = observations(scratch, now)
    pruned(scratch, Prunable.SNAPSHOTS, age=31 * DAY, now=now, newest=3)
    assert observations(scratch, now) == before
    assert pruned(scratch, Prunable.SNAPSHOTS, age=31 * DAY, now=now, newest=3) == 0


def test_the_generated_histories_have_something_to_prune(scratch):
    history = [("gloo", ENDINGS[0], set(), 3, 0, 1.0)] * 40
    now = write_history(scratch, history, 0)
    assert pruned(scratch, Prunable.SNAPSHOTS, age=31 * DAY, now=now, newest=3) > 20


def test_configured_ages_become_cutoffs():
    found = cutoffs(Ages(snapshots=31 * DAY), now=NOW, newest=NOW, settled=NOW - DAY)
    assert found.before == {Prunable.SNAPSHOTS: NOW - 31 * DAY}


def test_every_status_of_a_run_is_distinguishable():
    assert {status for status, _ in ENDINGS} | {"running"} == {status.value for status in RunStatus}
