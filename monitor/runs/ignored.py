"""Items that are told to be ignored, and to be heeded again: neither counted nor checked in between.

An incident lets go of them in the next run; this touches no incident.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from monitor.database.engine import in_fews
from monitor.database.tables import item_events, items

BY_HAND = 0
"""In the place of a run's id: no run did it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """What became of the items that were named."""

    changed: int
    unchanged: int
    """They were so already."""


def off_the_list(conn: Connection, *, target: str, item_ids: Sequence[str]) -> list[str]:
    """Those of some ids that are not on a target's work list, in their order."""
    on_it: set[str] = set()
    for few in in_fews(item_ids):
        query = select(items.c.item_id).where(items.c.target == target, items.c.item_id.in_(few))
        on_it.update(conn.execute(query).scalars())
    return [item_id for item_id in item_ids if item_id not in on_it]


def ignore(conn: Connection, *, target: str, item_ids: Sequence[str], reason: str, now: datetime) -> SetAside:
    """Makes items ignored from now on, and notes it in their lives. An item that was so already gets the new reason.

    Args:
        conn: a write transaction.
        target: whose items.
        item_ids: ids on the work list, each once.
        reason: why, in the words of whoever decided it (at most 500 characters).
        now: aware.
    """
    changed = 0
    for few in in_fews(item_ids):
        these = items.c.target == target, items.c.item_id.in_(few)
        fresh = conn.execute(select(items.c.item_id).where(*these, items.c.ignored_at.is_(None))).scalars().all()
        _note(conn, target, fresh, kind="ignored", why=reason, now=now)
        conn.execute(update(items).where(*these, items.c.ignored_at.is_(None)).values(ignored_at=now))
        conn.execute(update(items).where(*these).values(ignore_reason=reason))
        changed += len(fresh)
    return SetAside(changed=changed, unchanged=len(item_ids) - changed)


def heed(conn: Connection, *, target: str, item_ids: Sequence[str], now: datetime) -> SetAside:
    """Makes items count again, and notes it in their lives; the arguments are those of `ignore`."""
    changed = 0
    for few in in_fews(item_ids):
        these = items.c.target == target, items.c.item_id.in_(few)
        set_aside = select(items.c.item_id).where(*these, items.c.ignored_at.is_not(None))
        back = conn.execute(set_aside).scalars().all()
        _note(conn, target, back, kind="heeded", why=None, now=now)
        conn.execute(update(items).where(*these).values(ignored_at=None, ignore_reason=None))
        changed += len(back)
    return SetAside(changed=changed, unchanged=len(item_ids) - changed)


def _note(conn: Connection, target: str, item_ids: Sequence[str], *, kind: str, why: str | None, now: datetime) -> None:
    event = {"target": target, "run_id": BY_HAND, "at": now, "kind": kind, "new": why[:200] if why else None}
    if item_ids:
        conn.execute(insert(item_events), [{**event, "item_id": item_id} for item_id in item_ids])
