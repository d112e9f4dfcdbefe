"""Items that are told to be ignored, and to be heeded again: neither counted nor checked in between.

An incident lets go of them in the next run; this touches no incident.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from monitor.database.engine import in_chunks
from monitor.database.tables import item_events, items

NO_RUN_ID = 0
"""In the place of a run's id: no run did it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreResult:
    """What became of the items that were named."""

    changed: int
    unchanged: int
    """They were so already."""


def not_on_worklist(conn: Connection, *, target: str, item_ids: Sequence[str]) -> list[str]:
    """Those of some ids that are not on a target's work list, in their order."""
    known_ids: set[str] = set()
    for chunk in in_chunks(item_ids):
        query = select(items.c.item_id).where(items.c.target == target, items.c.item_id.in_(chunk))
        known_ids.update(conn.execute(query).scalars())
    return [item_id for item_id in item_ids if item_id not in known_ids]


def ignore(conn: Connection, *, target: str, item_ids: Sequence[str], reason: str, now: datetime) -> IgnoreResult:
    """Makes items ignored from now on, and notes it in their lives. An item that was so already gets the new reason.

    Args:
        conn: a write transaction.
        target: whose items.
        item_ids: ids on the work list, each once.
        reason: why, in the words of whoever decided it (at most 500 characters).
        now: aware.
    """
    changed = 0
    for chunk in in_chunks(item_ids):
        conditions = items.c.target == target, items.c.item_id.in_(chunk)
        changed_ids = (
            conn.execute(select(items.c.item_id).where(*conditions, items.c.ignored_at.is_(None))).scalars().all()
        )
        _add_events(conn, target, changed_ids, kind="ignored", reason=reason, now=now)
        conn.execute(update(items).where(*conditions, items.c.ignored_at.is_(None)).values(ignored_at=now))
        conn.execute(update(items).where(*conditions).values(ignore_reason=reason))
        changed += len(changed_ids)
    return IgnoreResult(changed=changed, unchanged=len(item_ids) - changed)


def unignore(conn: Connection, *, target: str, item_ids: Sequence[str], now: datetime) -> IgnoreResult:
    """Makes items count again, and notes it in their lives; the arguments are those of `ignore`."""
    changed = 0
    for chunk in in_chunks(item_ids):
        conditions = items.c.target == target, items.c.item_id.in_(chunk)
        ignored_ids_query = select(items.c.item_id).where(*conditions, items.c.ignored_at.is_not(None))
        ignored_ids = conn.execute(ignored_ids_query).scalars().all()
        _add_events(conn, target, ignored_ids, kind="unignored", reason=None, now=now)
        conn.execute(update(items).where(*conditions).values(ignored_at=None, ignore_reason=None))
        changed += len(ignored_ids)
    return IgnoreResult(changed=changed, unchanged=len(item_ids) - changed)


def _add_events(
    conn: Connection, target: str, item_ids: Sequence[str], *, kind: str, reason: str | None, now: datetime
) -> None:
    event = {"target": target, "run_id": NO_RUN_ID, "at": now, "kind": kind, "new": reason[:200] if reason else None}
    if item_ids:
        conn.execute(insert(item_events), [{**event, "item_id": item_id} for item_id in item_ids])
