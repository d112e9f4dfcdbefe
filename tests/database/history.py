"""Runs, items and events as runs store them, for tests of queries."""

from datetime import timedelta

from sqlalchemy import insert
from support.samples import NOW

from monitor.database.engine import writing
from monitor.database.tables import item_events, items
from monitor.model import RunStatus, Snapshot
from monitor.runs import store as runs

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class HistoryBuilder:
    """Writes the history of a target, `gloo` by default."""

    def __init__(self, engine):
        self._engine = engine

    def run(self, at, status=RunStatus.COMPLETE, *, target="gloo", snapshot=None, **closing):
        """Stores a run that started at a time and took a minute; returns its id. With RUNNING it is left open."""
        stored = None if status is RunStatus.FAILED else snapshot or Snapshot(completed=3)
        with writing(self._engine) as conn:
            run_id = runs.start(conn, target=target, environment="test", run_key=None, epoch=1, started_at=at)
            if status is not RunStatus.RUNNING:
                values = {"abort_reason": None, "owner_cause": None, "due": 3, "answered": 3, "error": None, **closing}
                ended = at + MINUTE
                runs.finish(conn, run_id=run_id, status=status, finished_at=ended, snapshot=stored, **values)
        return run_id

    def item(self, item_id, state="completed", *, target="gloo", **fields):
        """Stores an item; its known state is its state by default."""
        row = {"state": state, "known_state": state, "first_seen_at": NOW - 30 * DAY, **fields}
        with writing(self._engine) as conn:
            conn.execute(insert(items).values(target=target, item_id=item_id, **row))

    def event(self, item_id, run_id, *, old, new, at, kind="state", target="gloo"):
        """Stores an event of an item."""
        row = {"target": target, "item_id": item_id, "run_id": run_id, "at": at, "kind": kind, "old": old, "new": new}
        with writing(self._engine) as conn:
            conn.execute(insert(item_events).values(row))
