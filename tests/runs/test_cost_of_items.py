"""No query of a run reads the rows of all completed items: they are looked up, or counted in an index."""

from datetime import timedelta
from itertools import chain

import pytest
from incidents.test_members import BY_GROUP
from sqlalchemy import event, insert, text
from support.samples import NOW
from support.statements import Statement, nodes, postgres_plan, rows_read, sqlite_plan

from monitor.database.engine import writing
from monitor.database.tables import items
from monitor.incidents import store as incident_store
from monitor.model import Cause, Reason
from monitor.runs import worklist

MANY, FEW = 3_000, 5
EVERY = timedelta(minutes=1)


def queries(conn):
    """All that the plan and the end of a run ask of the work list."""
    again = worklist.longest_unasked(conn, target="gloo", run_id=9, limit=20)
    ids = [each.item_id for each in again]
    worklist.count_work(conn, target="gloo")
    worklist.probe_candidates(conn, target="gloo", run_id=9, item_ids=ids)
    worklist.mark_unasked_unknown(conn, target="gloo", run_id=9, reason=Reason.DEADLINE, recheck_ids=ids)
    worklist.count_unverified_run(conn, target="gloo", run_id=9, causes={Cause.OUTAGE})
    worklist.count_states(conn, target="gloo", now=NOW, stuck_after=EVERY)
    worklist.count_last_known(conn, target="gloo")
    worklist.count_unrecognised(conn, target="gloo")
    BY_GROUP.evidence(conn, now=NOW)
    incident_store.unasked_by_reason(conn, target="gloo")


@pytest.fixture
def large(engine):
    row = {"target": "gloo", "first_seen_at": NOW, "asked_run_id": 8}
    states = [("completed", "completed")] * MANY
    states += [(now, known) for now in ("pending", "failed", "unknown") for known in ("pending", "completed")] * FEW
    with writing(engine) as conn:
        conn.execute(insert(items), [
            row | {"item_id": f"{n:05}", "state": now, "known_state": known} for n, (now, known) in enumerate(states)
        ])  # fmt: skip
    return engine


def test_no_query_of_a_run_reads_all_completed_items(large, database_kind, monkeypatch):
    monkeypatch.setattr(worklist, "_SPREAD", 100)
    sent = {}
    with writing(large) as conn:
        if database_kind == "postgresql":
            conn.execute(text("ANALYZE"))
            conn.execute(text("SET enable_seqscan = off"))

        def note(_conn, _cursor, sql, parameters, _context, many):
            if "items" in sql:
                sent.setdefault(sql, parameters[0] if many else parameters)

        event.listen(large, "before_cursor_execute", note)
        for _ in chain(worklist.iter_due_items(large, target="gloo", run_id=9, recheck=("00001",), members=FEW),
                       worklist.iter_unverified(large, target="gloo", run_id=9)):  # fmt: skip
            pass
        queries(conn)
        event.remove(large, "before_cursor_execute", note)
        assert len(sent) >= 20
        costly = [sql for sql, given in sent.items() if reads_all_rows(conn, Statement(sql, given))]
    assert not costly


def reads_all_rows(conn, statement):
    """Whether more is read than looked up: on SQLite by the plan, on PostgreSQL by the rows that were read."""
    if conn.dialect.name == "sqlite":
        of_items = [line for line in sqlite_plan(conn, statement) if "items" in line and "COVERING" not in line]
        few = ("ix_items_state", "ix_items_due", "ix_items_unverified", "ix_items_incident_id", "=? AND item_id=?")
        # in the order that is asked for, as many rows as are asked for
        few += ("ix_items_completed",) if "ORDER BY items.asked_run_id" in statement.sql else ()
        if sum("ix_items_completed" in line for line in of_items) > 1:
            return True  # those that are not completed now are looked for among those that were
        return any(not line.startswith("SEARCH") or not any(each in line for each in few) for line in of_items)
    plan = postgres_plan(conn, statement)
    in_index = any("Only" in node["Node Type"] for node in nodes(plan["Plan"]))
    return not in_index and rows_read(plan).get("items", 0) >= MANY
