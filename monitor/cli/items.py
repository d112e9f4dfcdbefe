"""`items list`, `items show` and `items ignore`: the work list, whichever log it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from monitor.app import App, utcnow
from monitor.cli.session import (
    load,
    open_app,
    parse_duration_option,
    print_json,
    print_lines,
    require_known_target,
    unknown_target,
)
from monitor.database.engine import reading, writing
from monitor.database.text import UNPRINTABLE
from monitor.errors import ConfigError
from monitor.model import ItemState
from monitor.notifications.texts import format_items
from monitor.reports import item_queries
from monitor.reports.items import item_json, item_text, items_json, items_text
from monitor.runs import ignored
from monitor.synclog import builtin as builtin_log

STATES = (*(state.value for state in ItemState), item_queries.REMOVED, item_queries.IGNORED)
MIN_AGE, MAX_AGE = timedelta(0), timedelta(days=36_500)
MAX_REASON_LENGTH = 500
MAX_EVENTS = 10_000
"""Turns of one item's life that are shown."""
MAX_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """The command line of `items list`."""

    target: str | None = None
    states: tuple[str, ...] = ()
    stuck: bool = False
    group: str | None = None
    stage: str | None = None
    older_than: str | None = None
    limit: int = 50
    wide: bool = False
    as_json: bool = False


def listing(path: Path | None, options: ListOptions) -> None:
    """Prints the items that are wanted.

    Raises:
        ConfigError: an option is wrong, or there is no such target.
        StoreError: the database can't be used.
    """
    states, older, now = _states(options.states), _age(options.older_than), utcnow()
    require_storable([text for text in (options.group, options.stage) if text])
    with open_app(load(path)) as app:
        require_known_target(app, options.target)
        wanted = item_queries.ItemFilter(
            target=options.target,
            states=states,
            stuck=options.stuck,
            group=options.group,
            stage=options.stage,
            state_since_before=now - older if older is not None else None,
            stuck_after=_stuck_after(app),
        )
        with reading(app.engine) as conn:
            total, rows = item_queries.listing(conn, wanted, limit=options.limit, now=now)
    if options.as_json:
        print_json(items_json(rows, total=total))
    else:
        print_lines(items_text(rows, total=total, now=now, wide=options.wide))


def _states(names: Sequence[str]) -> frozenset[str]:
    if unknown := [word for word in names if word not in STATES]:
        hint = "; stuck items are found with --stuck" if "stuck" in unknown else ""
        raise ConfigError([f"--state: {', '.join(map(ascii, unknown))} is none of {', '.join(STATES)}{hint}"])
    return frozenset(names)


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    return parse_duration_option(
        "--older-than", text, minimum=MIN_AGE, maximum=MAX_AGE, examples='"30m", "2h" or "1d12h"'
    )


def _stuck_after(app: App) -> Mapping[str, timedelta]:
    return {target.name: target.check.stuck_after for target in app.config.targets}


def show(path: Path | None, item_id: str, target: str | None, *, as_json: bool) -> None:
    """Prints one item's whole life.

    Raises:
        ConfigError: there is no such item or target, or several targets have it.
        StoreError: the database can't be used.
    """
    now = utcnow()
    with open_app(load(path)) as app:
        require_known_target(app, target)
        row = _find_one(app, item_id, target, now)
        with reading(app.engine) as conn:
            total, history = item_queries.events(conn, target=row.target, item_id=row.item_id, limit=MAX_EVENTS)
    if as_json:
        events = [
            {
                "at": event.at.isoformat(),
                "kind": event.kind,
                "from": event.old,
                "to": event.new,
                "run_id": event.run_id or None,
            }
            for event in history
        ]
        print_json({**item_json(row), "events": events})
    else:
        print_lines(item_text(row, history, earlier=total - len(history), now=now))


def _find_one(app: App, item_id: str, target: str | None, now: datetime) -> item_queries.ItemRow:
    require_storable([item_id])
    with reading(app.engine) as conn:
        found = item_queries.find(conn, item_id, target=target, stuck_after=_stuck_after(app), now=now)
        if len(found) == 1:
            return found[0]
        if found:
            owners = ", ".join(row.target for row in found)
            raise ConfigError([f"{len(found)} targets have the item {item_id}: {owners}; choose one with --target"])
        waiting = [name for name in builtin_log.added_at(conn, item_id=item_id) if target in {None, name}]
        if waiting:
            where = f"is in the built-in log of {', '.join(waiting)}, and no run has read it yet"
            raise ConfigError([f"the item {item_id} {where}; run `ingestion-monitor check`"])
        similar = item_queries.similar_ids(conn, item_id, target=target)
    hint = (
        f"did you mean {' or '.join(similar)}?" if similar else "`ingestion-monitor items list` names those there are"
    )
    raise ConfigError([f"no tracked item has the id {item_id}; {hint}"])


def ignore(path: Path | None, item_ids: Sequence[str], target: str | None, reason: str | None, *, undo: bool) -> None:
    """Makes items ignored, or heeded again; all that are named, or none.

    Raises:
        ConfigError: an option is wrong, or an id is not on the work list. Nothing was changed.
        StoreError: the database can't be used.
    """
    reason_text, now, ids = _reason(reason, undo=undo), utcnow(), tuple(dict.fromkeys(item_ids))
    with open_app(load(path)) as app:
        owner = _owner(app, target)
        with writing(app.engine) as conn:
            _require_on_worklist(ignored.not_on_worklist(conn, target=owner, item_ids=require_storable(ids)), owner)
            if reason_text is None:
                result = ignored.unignore(conn, target=owner, item_ids=ids, now=now)
            else:
                result = ignored.ignore(conn, target=owner, item_ids=ids, reason=reason_text, now=now)
    what, unchanged_text = (
        ("heeded again", "not ignored anyway") if reason_text is None else ("ignored from now on", "ignored before")
    )
    unchanged = f", {result.unchanged} {unchanged_text}" if result.unchanged else ""
    print_lines(f"{owner}: {format_items(result.changed)} {what}{unchanged}")


def _reason(text: str | None, *, undo: bool) -> str | None:
    if undo:
        if text is not None:
            raise ConfigError(["--reason has no meaning with --undo: leave it out"])
        return None
    reason = (text or "").strip()
    if not (reason and reason.isprintable() and len(reason) <= MAX_REASON_LENGTH):
        raise ConfigError(
            [f"--reason: say in 1 to {MAX_REASON_LENGTH} printable characters why, as in --reason 'deleted on purpose'"]
        )
    return reason


def require_storable(texts: Sequence[str]) -> Sequence[str]:
    """Gives ids back, if they are such as can be stored at all: others would fail in the database.

    Raises:
        ConfigError: one of them holds a control character, or bytes that are no text.
    """
    if unstorable := [text for text in texts if UNPRINTABLE.search(text)]:
        raise ConfigError([f"{unstorable[0]!a} holds a character that nothing stored has; copy it from `items list`"])
    return texts


def _owner(app: App, target: str | None) -> str:
    names = [each.name for each in app.config.targets]
    if target is None:
        if len(names) > 1:
            raise ConfigError([f"--target: say whose items these are: {', '.join(names)}"])
        return names[0]
    if target not in names:
        raise unknown_target(app.config, target)
    return target


def _require_on_worklist(missing: Sequence[str], target: str) -> None:
    if not missing:
        return
    named = ", ".join(missing[:MAX_LISTED]) + (
        f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
    )
    hint = "`ingestion-monitor items list` names the items there are; a new id is on it after the next check"
    raise ConfigError([f"not on the work list of {target}: {named}; nothing was changed. {hint}"])
