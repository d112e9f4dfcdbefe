"""The view of one item's page: what is known of it, its changes with the time between them, and its incidents."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import store as incident_store
from monitor.model import Incident
from monitor.reports.item_queries import ItemEvent, ItemRow
from monitor.reports.item_views import ItemView, item_view
from monitor.reports.items import event_text, item_facts

MAX_CHANGES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of an item."""

    at: datetime
    text: str
    kind: str
    state: str | None
    """The state from then on, of a change of the state."""
    run_id: int | None
    lasted_s: float
    """Until the next change, or until now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPage:
    """Everything on the page of one item."""

    view: ItemView
    facts: Sequence[tuple[str, str]]
    """Labels and texts, as `items show` prints them."""
    changes: Sequence[Change]
    """The newest ones, newest first."""
    left_out: int
    """Older changes."""
    incident: Incident | None
    """The open one that it belongs to."""


_ELSEWHERE = frozenset({"state", "since", "incident", "uploaded", "first seen", "last seen", "last checked"})
"""Facts that the page shows in another form: as marks, links or times."""


def item_page(conn: Connection, item: ItemRow, *, now: datetime) -> ItemPage:
    """The page of an item that `look_up` found."""
    view = item_view(conn, item, now=now)
    # without an answer, the last error is its request id alone
    elsewhere = _ELSEWHERE if item.http_status or item.code else _ELSEWHERE | {"last error"}
    shown = view.events[-MAX_CHANGES:]
    ends = [*(event.at for event in shown[1:]), now]
    changes = [_change(event, until) for event, until in zip(shown, ends, strict=False)]
    return ItemPage(
        view=view,
        facts=[(name, text) for name, text in item_facts(item, now) if text and name not in elsewhere],
        changes=list(reversed(changes)),
        left_out=view.event_count - len(shown),
        incident=None if item.incident_id is None else incident_store.find(conn, item.incident_id),
    )


def _change(event: ItemEvent, until: datetime) -> Change:
    return Change(
        at=event.at,
        text=event_text(event),
        kind=event.kind,
        state=(event.new or "unknown") if event.kind == "state" else None,
        run_id=event.run_id or None,
        lasted_s=(until - event.at).total_seconds(),
    )
