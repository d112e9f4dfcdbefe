"""Runs, items and events as runs leave them, for tests of what is read off them."""

from datetime import timedelta

from sqlalchemy import insert
from support.samples import NOW

from monitor.database.engine import writing
from monitor.database.tables import item_events, items
from monitor.model import RunStatus, Snapshot
from monitor.runs import store as runs

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


class HistoryBuilder:
    """Writes the past of a target, `gloo` unless another is named."""

    def __init__(self, engine):
        self._engine = engine

    def run(self, at, status=RunStatus.COMPLETE, *, target="gloo", snapshot=None, **closing):
        """A run that started at a time and took a minute; gives back its id. One that is RUNNING is left open."""
        stored = None if status is RunStatus.FAILED else snapshot or Snapshot(completed=3)
        with writing(self._engine) as conn:
            run_id = runs.start(conn, target=target, environment="test", run_key=None, epoch=1, started_at=at)
            if status is not RunStatus.RUNNING:
                values = {"abort_reason": None, "owner_cause": None, "due": 3, "answered": 3, "error": None, **closing}
                ended = at + MINUTE
                runs.finish(conn, run_id=run_id, status=status, finished_at=ended, snapshot=stored, **values)
        return run_id

    def item(self, item_id, state="completed", *, target="gloo", **fields):
        """An item; its known state is its state unless told otherwise."""
        row = {"state": state, "known_state": state, "first_seen_at": NOW - 30 * DAY, **fields}
        with writing(self._engine) as conn:
            conn.execute(insert(items).values(target=target, item_id=item_id, **row))

    def event(self, item_id, run_id, *, old, new, at, kind="state", target="gloo"):
        """A turn in the life of an item."""
        row = {"target": target, "item_id": item_id, "run_id": run_id, "at": at, "kind": kind, "old": old, "new": new}
        with writing(self._engine) as conn:
            conn.execute(insert(item_events).values(row))
