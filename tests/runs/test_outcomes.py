"""What a batch of outcomes leaves in the database, whatever shares a statement."""

import random
from datetime import UTC, datetime, timedelta
from enum import Enum

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.exc import IntegrityError
from support.outcomes import row_of, whole_row

from monitor.database.engine import reading, writing
from monitor.database.tables import item_events, items
from monitor.model import Cause, ItemState, Outcome
from monitor.model.http import ApiError
from monitor.model.items import ItemChange, transition
from monitor.runs import outcomes, worklist

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IDS = [f"{name} {n:03}" for n in range(40) for name in ("é", 'it\'s "a"\\')]


def put(engine, *ids):
    with writing(engine) as conn:
        rows = [{"target": target, "item_id": each} for target in ("gloo", "other") for each in ids]
        conn.execute(insert(items), [row | {"first_seen_at": NOW, "state": "unknown"} for row in rows])


def tracked(conn):
    rows = conn.execute(select(*worklist._TRACKED).where(items.c.target == "gloo"))
    return {row.item_id: worklist._tracked(row) for row in rows}


def stored(conn, target="gloo"):
    columns = (items.c[name] for name in (*row_of(next(iter(tracked(conn).values()))), "asked_run_id"))
    rows = conn.execute(select(items.c.item_id, *columns).where(items.c.target == target)).mappings()
    return {row["item_id"]: {name: row[name] for name in row if name != "item_id"} for row in rows}


def found(dice, item_id, at):
    """Few outcomes that many items have, and some that each has for itself."""
    state = dice.choice(list(ItemState))
    unknown = state is ItemState.UNKNOWN
    error = ApiError(status=503 if unknown else 404, request_id=dice.choice(["r", item_id]))
    return Outcome(
        item_id=item_id, state=state, at=at, answered=not unknown, stage=dice.choice(["X", "Y"]),
        reason=Cause.OUTAGE if unknown else None, error=error if not state.exists else None,
        failure_message=item_id if state is ItemState.FAILED else None,
    )  # fmt: skip


def test_a_row_is_as_if_each_outcome_had_written_all_of_it(engine):
    dice = random.Random(7)  # noqa: S311  # not for secrets
    put(engine, *IDS)
    with reading(engine) as conn:
        untouched, expected = stored(conn, "other"), stored(conn)
    for run_id in range(1, 6):
        at = NOW + timedelta(minutes=run_id)
        with writing(engine) as conn:
            known = tracked(conn)
            answers = [found(dice, each, at) for each in dice.sample(IDS, 70)]
            changes = [transition(known[each.item_id], each) for each in answers]
            outcomes.record(conn, target="gloo", run_id=run_id, changes=changes)
            assert outcomes.is_recorded(conn, target="gloo", run_id=run_id, change=changes[0])
            for each in answers:
                row = whole_row(known[each.item_id], each)
                plain = {name: value.value if isinstance(value, Enum) else value for name, value in row.items()}
                expected[each.item_id] = plain | {"asked_run_id": run_id}
            assert stored(conn) == expected
            events = conn.execute(select(item_events).where(item_events.c.run_id == run_id)).all()
        assert sorted((each.item_id, each.kind, each.old, each.new, each.at) for each in events) == sorted(
            (change.item_id, *change.event, at) for change in changes if change.event
        )
    with reading(engine) as conn:
        assert stored(conn, "other") == untouched


def test_a_thousand_answers_that_change_nothing_are_one_narrow_statement(engine):
    many = [f"{n:04}" for n in range(1000)]
    put(engine, *many)
    for run_id in (1, 2):
        at, sent = NOW + timedelta(minutes=run_id), []
        with writing(engine) as conn:
            answers = [Outcome(item_id=each, state=ItemState.COMPLETED, at=at, answered=True) for each in many]
            known = tracked(conn)
            changes = [transition(known[each.item_id], each) for each in answers]
            listening = (conn, "before_cursor_execute", lambda *seen, to=sent: to.append(seen[2]))
            event.listen(*listening)
            outcomes.record(conn, target="gloo", run_id=run_id, changes=changes)
            event.remove(*listening)
    [narrow] = sent
    assert "checked_at=" in narrow
    assert "state=" not in narrow
    with reading(engine) as conn:
        assert {row.checked_at for row in tracked(conn).values()} == {at}
        assert len(conn.execute(select(item_events)).all()) == len(many)


def test_a_row_that_cannot_be_stored_undoes_its_batch_and_on_sqlite_the_statement_ends_it(engine):
    put(engine, "good", "bad")
    with reading(engine) as conn:
        untouched, known = stored(conn), tracked(conn)
    answer = Outcome(item_id="good", state=ItemState.COMPLETED, at=NOW, answered=True)
    impossible = ItemChange(item_id="bad", at=NOW, changed=(("state", None),), event=None, completion=None)
    changes = [transition(known["good"], answer), impossible]
    with reading(engine) as conn:
        with pytest.raises(IntegrityError):
            outcomes.record(conn, target="gloo", run_id=1, changes=changes)
        if conn.dialect.name == "sqlite":  # so it needs no journal of its own, of pages before they changed
            assert not conn.connection.dbapi_connection.in_transaction
    with reading(engine) as conn:
        assert stored(conn) == untouched
