"""Turns answers into outcomes, and stores them: the items' rows, and an event for each change."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import cast

from sqlalchemy import Connection, bindparam, insert, select, update

from monitor.client.api_errors import parse_api_error, parse_unusable
from monitor.client.classify import cause_of, is_absent, is_invalid_id
from monitor.database.bulk import Bulk, TimestampEncoder, id_set, ids_of, timestamp_encoder
from monitor.database.tables import item_events, items
from monitor.database.text import to_column_text
from monitor.model import BadBody, Cause, ItemState, ItemStatus, Outcome
from monitor.model.http import ApiError, Meaning, Reply, is_cached, plain_text
from monitor.model.items import MAX_REASON_CHARS, Changed, ItemChange, is_code
from monitor.rollups import indexing_store
from monitor.rollups.indexing import Watch

_WIDTHS = {"stage": 200, "code": 200, "request_id": 200, "page": 200, "failure_message": 500}
"""Columns for texts of the API, which have any length and any character."""
_EVENT_TEXT = 200
_FAILED = ItemState.FAILED  # looked up once, as it is compared for every item
_FEW = 4
"""Items with the same change that are not worth a statement of their own."""
_WITHOUT_JOURNAL = "OR ROLLBACK"
"""A row that fails ends the transaction, as it would anyway. Else SQLite copies each page before a statement changes
it, to undo that statement alone."""


def record(
    conn: Connection,
    *,
    target: str,
    run_id: int,
    changes: Sequence[ItemChange],
    watch: Watch = Watch(),  # noqa: B008  # immutable
) -> None:
    """Stores item changes, with an event for each known state or stage that changed, and counts first completions.

    Items with the same change are one statement; only columns that change are written, and that the run asked.
    """
    if not changes:
        return
    by_change = defaultdict[Changed, list[str]](list)
    by_event = defaultdict[tuple[datetime, _Event], list[str]](list)
    # neighbours share a change as one object, which spares the hash of its many parts
    for changed, alike in groupby(changes, attrgetter("changed")):
        by_change[changed] += [change.item_id for change in alike]
    for (at, event), alike in groupby(changes, attrgetter("at", "event")):
        if event is not None:
            by_event[at, event] += [change.item_id for change in alike]
    _update_items(conn, target, run_id, by_change)
    _insert_events(conn, target, run_id, by_event)
    if completions := [change.completion for change in changes if change.completion is not None]:
        indexing_store.count_completions(conn, target=target, completions=completions, watch=watch)


def is_recorded(conn: Connection, *, target: str, run_id: int, change: ItemChange) -> bool:
    """Whether a change, and so its whole batch, is stored. Waits for a commit in progress on a lost connection."""
    row = (items.c.target == target, items.c.item_id == change.item_id)
    found = conn.execute(select(items.c.asked_run_id).where(*row).with_for_update()).scalar()
    return bool(found == run_id)


def _update_items(conn: Connection, target: str, run_id: int, by_change: Mapping[Changed, list[str]]) -> None:
    encode = timestamp_encoder(conn)
    rare = defaultdict[tuple[str, ...], list[tuple[object, ...]]](list)
    for changed, ids in by_change.items():
        names = tuple(name for name, _ in changed)
        values = (*(_encoded(name, value, encode) for name, value in changed), run_id, target)
        if len(ids) > _FEW:
            _update(names, one=False).execute(conn, [(*values, id_set(conn, ids))])
        else:
            rare[names] += [(*values, item_id) for item_id in ids]
    for names, rows in rare.items():
        _update(names, one=True).execute(conn, sorted(rows, key=itemgetter(-1)))


def _encoded(name: str, value: object, encode: TimestampEncoder) -> object:
    if isinstance(value, datetime):
        return encode(value)
    if isinstance(value, Enum):
        return value.value
    return to_column_text(cast("str | None", value), _WIDTHS[name]) if name in _WIDTHS else value


@lru_cache(maxsize=256)
def _update(names: tuple[str, ...], *, one: bool) -> Bulk:
    """The statement that sets these columns of one item, or of a set of items, and that the run asked about it."""
    of_item = items.c.item_id == bindparam("of_item") if one else items.c.item_id.in_(ids_of("of_item"))
    written = (*names, "asked_run_id")
    statement = update(items).prefix_with(_WITHOUT_JOURNAL, dialect="sqlite")
    statement = statement.where(items.c.target == bindparam("of_target"), of_item)
    return Bulk(statement.values({name: bindparam(name) for name in written}), (*written, "of_target", "of_item"))


_Event = tuple[str, str | None, str | None]
"""Kind, old, new."""
_EVENT_VALUES = ("target", "run_id", "at", "kind", "old", "new")
_ids = ids_of("ids").subquery("ids")
_INSERT_EVENTS = Bulk(
    insert(item_events)
    .prefix_with(_WITHOUT_JOURNAL, dialect="sqlite")
    .from_select(
        ["item_id", *_EVENT_VALUES],
        select(*_ids.c, *(bindparam(name, type_=item_events.c[name].type) for name in _EVENT_VALUES)),
    ),
    (*_EVENT_VALUES, "ids"),
)


def _insert_events(
    conn: Connection, target: str, run_id: int, by_event: Mapping[tuple[datetime, _Event], list[str]]
) -> None:
    encode = timestamp_encoder(conn)
    for (at, (kind, old, new)), ids in by_event.items():
        texts = (to_column_text(old, _EVENT_TEXT), to_column_text(new, _EVENT_TEXT))
        _INSERT_EVENTS.execute(conn, [(target, run_id, encode(at), kind, *texts, id_set(conn, ids))])


def outcome_from_status(
    item_id: str,
    reply: Reply,
    status: ItemStatus | BadBody | Meaning,
    at: datetime,
    *,
    redact: Callable[[str], str] = str,
) -> Outcome:
    """The outcome for an item from what the provider read in the body of a 2xx."""
    if isinstance(status, Meaning):
        said = parse_api_error(reply, redact=redact)
        return outcome_from_error(item_id, replace(said, meaning=status, page=None), at)
    if isinstance(status, BadBody):
        error = parse_unusable(reply, status.reason, redact=redact)
        return Outcome(
            item_id=item_id, state=ItemState.UNKNOWN, reason=Cause.BAD_RESPONSE, error=error, answered=False, at=at
        )
    reason, message = _failure(status, redact) if status.state is _FAILED else (None, None)
    return Outcome(
        item_id=item_id,
        state=status.state,
        stage=redact(status.stage),
        recognised=status.recognised,
        answered=True,
        cached=is_cached(reply.headers),
        at=at,
        failure_reason=reason,
        failure_message=message,
    )


def outcome_from_error(item_id: str, error: ApiError, at: datetime) -> Outcome:
    """The outcome for an item whose call failed."""
    if is_absent(error):
        return Outcome(
            item_id=item_id, state=ItemState.NOT_FOUND, error=error, answered=True, cached=error.cached, at=at
        )
    if is_invalid_id(error) and not error.from_token_endpoint:
        return Outcome(item_id=item_id, state=ItemState.INVALID, error=error, answered=True, cached=error.cached, at=at)
    cause = cause_of(error)
    return Outcome(item_id=item_id, state=ItemState.UNKNOWN, reason=cause, error=error, answered=False, at=at)


def _failure(status: ItemStatus, redact: Callable[[str], str]) -> tuple[str | None, str | None]:
    """The reason of a failure, a code or a phrase with blanks, and the text about it.

    A phrase is the text if there is no other; one odd word is a text alone.
    """
    reason, message = plain_text(status.failure_reason or "", MAX_REASON_CHARS), status.failure_message or ""
    if not is_code(reason):
        reason, message = reason if " " in reason else "", message or reason
    return redact(reason) or None, redact(message) or None


def listed_outcome(
    item_id: str, status: ItemStatus | BadBody | None, at: datetime, *, redact: Callable[[str], str] = str
) -> Outcome:
    """The outcome for an item whose API has nothing but a list; `status`: what the list says, None: it is not in it."""
    if status is None or (isinstance(status, ItemStatus) and status.state is ItemState.NOT_FOUND):
        return Outcome(item_id=item_id, state=ItemState.NOT_FOUND, answered=True, at=at)
    if isinstance(status, BadBody):
        error = ApiError(status=HTTPStatus.OK, message=status.reason)
        unknown, cause = ItemState.UNKNOWN, Cause.BAD_RESPONSE
        return Outcome(item_id=item_id, state=unknown, reason=cause, error=error, answered=False, at=at)
    reason, message = _failure(status, redact) if status.state is ItemState.FAILED else (None, None)
    return Outcome(
        item_id=item_id,
        state=status.state,
        stage=status.stage,
        recognised=status.recognised,
        answered=True,
        at=at,
        failure_reason=reason,
        failure_message=message,
    )


def malformed_id_outcome(item_id: str, at: datetime) -> Outcome:
    """The outcome for an id that the provider can't accept: it is quarantined, and no request is sent."""
    return Outcome(item_id=item_id, state=ItemState.INVALID, answered=False, at=at)
