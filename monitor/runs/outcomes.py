"""Turns answers into outcomes, and stores them: the items' rows, and an event for each change."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus

from sqlalchemy import Connection, bindparam, insert, select, update

from monitor.client.api_errors import parse_api_error, parse_unusable
from monitor.client.classify import cause_of, is_absent, is_invalid_id
from monitor.database.bulk import Bulk, TimestampEncoder, timestamp_encoder
from monitor.database.tables import item_events, items
from monitor.database.text import to_column_text
from monitor.model import BadBody, Cause, ItemState, ItemStatus, Outcome
from monitor.model.http import ApiError, Meaning, Reply, is_cached, plain_text
from monitor.model.items import MAX_REASON_CHARS, ItemChange, is_code
from monitor.rollups import indexing_store
from monitor.rollups.indexing import Watch

_ITEM_COLUMNS = (
    "state",
    "reason",
    "known_state",
    "stage",
    "recognised",
    "since",
    "pending_since",
    "seen_at",
    "checked_at",
    "regressed_at",
    "http_status",
    "code",
    "request_id",
    "page",
    "unverified_runs",
    "failure_reason",
    "failure_message",
    "indexed_at",
    "asked_run_id",
)

_UPDATE_ITEM = Bulk(
    update(items)
    .where(items.c.target == bindparam("of_target"), items.c.item_id == bindparam("of_item"))
    .values({name: bindparam(name) for name in _ITEM_COLUMNS}),
    (*_ITEM_COLUMNS, "of_target", "of_item"),
)
_EVENT_COLUMNS = ("target", "item_id", "run_id", "at", "kind", "old", "new")
_INSERT_EVENT = Bulk(insert(item_events).values({name: bindparam(name) for name in _EVENT_COLUMNS}), _EVENT_COLUMNS)


def record(
    conn: Connection,
    *,
    target: str,
    run_id: int,
    changes: Sequence[ItemChange],
    watch: Watch = Watch(),  # noqa: B008  # immutable
) -> None:
    """Stores item changes, with an event for each known state or stage that changed, and counts first completions."""
    if not changes:
        return
    encode = timestamp_encoder(conn)
    _UPDATE_ITEM.execute(conn, (_values(target, run_id, change, encode) for change in changes))
    events = [_event(target, run_id, change, encode) for change in changes if change.event]
    if events:
        _INSERT_EVENT.execute(conn, events)
    if completions := [change.completion for change in changes if change.completion is not None]:
        indexing_store.count_completions(conn, target=target, completions=completions, watch=watch)


def is_recorded(conn: Connection, *, target: str, run_id: int, change: ItemChange) -> bool:
    """Whether a change, and so its whole batch, is stored. Waits for a commit in progress on a lost connection."""
    row = (items.c.target == target, items.c.item_id == change.item_id)
    found = conn.execute(select(items.c.asked_run_id).where(*row).with_for_update()).scalar()
    return bool(found == run_id)


def _values(target: str, run_id: int, change: ItemChange, encode: TimestampEncoder) -> tuple[object, ...]:
    return (
        change.state.value,
        change.reason and change.reason.value,
        change.known_state and change.known_state.value,
        # texts of the API have any length and any character
        to_column_text(change.stage, 200),
        change.recognised,
        encode(change.since),
        encode(change.pending_since),
        encode(change.seen_at),
        encode(change.checked_at),
        encode(change.regressed_at),
        change.http_status,
        to_column_text(change.code, 200),
        to_column_text(change.request_id, 200),
        to_column_text(change.page, 200),
        change.unverified_runs,
        change.failure_reason,
        to_column_text(change.failure_message, 500),
        encode(change.indexed_at),
        run_id,
        target,
        change.item_id,
    )


def _event(target: str, run_id: int, change: ItemChange, encode: TimestampEncoder) -> tuple[object, ...]:
    kind, old, new = change.event or ("", None, None)
    return target, change.item_id, run_id, encode(change.at), kind, to_column_text(old, 200), to_column_text(new, 200)


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
    reason, message = _failure(status, redact) if status.state is ItemState.FAILED else (None, None)
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
