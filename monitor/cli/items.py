"""`items list`, `items show` and `items ignore`: the work list, whichever log it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from monitor.app import App, utcnow
from monitor.cli.session import duration, known_target, load, opened, print_json, print_lines, unknown_target
from monitor.database.engine import reading, writing
from monitor.database.text import UNSTORABLE
from monitor.errors import ConfigError
from monitor.model import ItemState
from monitor.notifications.texts import format_items
from monitor.reports import item_queries as lookup
from monitor.reports.items import item_json, item_text, items_json, items_text
from monitor.runs import ignored
from monitor.synclog import builtin as tracked

STATES = (*(state.value for state in ItemState), lookup.REMOVED, lookup.IGNORED)
NO_AGE, LONGEST_AGE = timedelta(0), timedelta(days=36_500)
LONGEST_REASON = 500
EVENTS = 10_000
"""Turns of one item's life that are shown."""
NAMED = 20


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
    with opened(load(path)) as app:
        known_target(app, options.target)
        wanted = lookup.ItemFilter(
            target=options.target,
            states=states,
            stuck=options.stuck,
            group=options.group,
            stage=options.stage,
            begun_before=now - older if older is not None else None,
            stuck_after=_stuck_after(app),
        )
        with reading(app.engine) as conn:
            total, rows = lookup.listing(conn, wanted, limit=options.limit, now=now)
    if options.as_json:
        print_json(items_json(rows, total=total))
    else:
        print_lines(items_text(rows, total=total, now=now, wide=options.wide))


def _states(words: Sequence[str]) -> frozenset[str]:
    if unknown := [word for word in words if word not in STATES]:
        hint = "; stuck items are found with --stuck" if "stuck" in unknown else ""
        raise ConfigError([f"--state: {', '.join(map(ascii, unknown))} is none of {', '.join(STATES)}{hint}"])
    return frozenset(words)


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    return duration("--older-than", text, shortest=NO_AGE, longest=LONGEST_AGE, such_as='"30m", "2h" or "1d12h"')


def _stuck_after(app: App) -> Mapping[str, timedelta]:
    return {target.name: target.check.stuck_after for target in app.config.targets}


def show(path: Path | None, item_id: str, target: str | None, *, as_json: bool) -> None:
    """Prints one item's whole life.

    Raises:
        ConfigError: there is no such item or target, or several targets have it.
        StoreError: the database can't be used.
    """
    now = utcnow()
    with opened(load(path)) as app:
        known_target(app, target)
        row = _one(app, item_id, target, now)
        with reading(app.engine) as conn:
            total, life = lookup.events(conn, target=row.target, item_id=row.item_id, limit=EVENTS)
    if as_json:
        turns = [
            {
                "at": turn.at.isoformat(),
                "kind": turn.kind,
                "from": turn.old,
                "to": turn.new,
                "run_id": turn.run_id or None,
            }
            for turn in life
        ]
        print_json({**item_json(row), "events": turns})
    else:
        print_lines(item_text(row, life, earlier=total - len(life), now=now))


def _one(app: App, item_id: str, target: str | None, now: datetime) -> lookup.ItemRow:
    require_storable([item_id])
    with reading(app.engine) as conn:
        found = lookup.find(conn, item_id, target=target, stuck_after=_stuck_after(app), now=now)
        if len(found) == 1:
            return found[0]
        if found:
            owners = ", ".join(row.target for row in found)
            raise ConfigError([f"{len(found)} targets have the item {item_id}: {owners}; choose one with --target"])
        waiting = [name for name in tracked.added_at(conn, item_id=item_id) if target in {None, name}]
        if waiting:
            where = f"is in the built-in log of {', '.join(waiting)}, and no run has read it yet"
            raise ConfigError([f"the item {item_id} {where}; run `ingestion-monitor check`"])
        close = lookup.near(conn, item_id, target=target)
    hint = f"did you mean {' or '.join(close)}?" if close else "`ingestion-monitor items list` names those there are"
    raise ConfigError([f"no tracked item has the id {item_id}; {hint}"])


def ignore(path: Path | None, item_ids: Sequence[str], target: str | None, reason: str | None, *, undo: bool) -> None:
    """Makes items ignored, or heeded again; all that are named, or none.

    Raises:
        ConfigError: an option is wrong, or an id is not on the work list. Nothing was changed.
        StoreError: the database can't be used.
    """
    why, now, ids = _reason(reason, undo=undo), utcnow(), tuple(dict.fromkeys(item_ids))
    with opened(load(path)) as app:
        owner = _owner(app, target)
        with writing(app.engine) as conn:
            _on_the_list(ignored.not_on_worklist(conn, target=owner, item_ids=require_storable(ids)), owner)
            if why is None:
                done = ignored.unignore(conn, target=owner, item_ids=ids, now=now)
            else:
                done = ignored.ignore(conn, target=owner, item_ids=ids, reason=why, now=now)
    what, already = ("heeded again", "not ignored anyway") if why is None else ("ignored from now on", "ignored before")
    unchanged = f", {done.unchanged} {already}" if done.unchanged else ""
    print_lines(f"{owner}: {format_items(done.changed)} {what}{unchanged}")


def _reason(text: str | None, *, undo: bool) -> str | None:
    if undo:
        if text is not None:
            raise ConfigError(["--reason has no meaning with --undo: leave it out"])
        return None
    reason = (text or "").strip()
    if not (reason and reason.isprintable() and len(reason) <= LONGEST_REASON):
        raise ConfigError(
            [f"--reason: say in 1 to {LONGEST_REASON} printable characters why, as in --reason 'deleted on purpose'"]
        )
    return reason


def require_storable(texts: Sequence[str]) -> Sequence[str]:
    """Gives ids back, if they are such as can be stored at all: others would fail in the database.

    Raises:
        ConfigError: one of them holds a control character, or bytes that are no text.
    """
    if odd := [text for text in texts if UNSTORABLE.search(text)]:
        raise ConfigError([f"{odd[0]!a} holds a character that nothing stored has; copy it from `items list`"])
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


def _on_the_list(missing: Sequence[str], target: str) -> None:
    if not missing:
        return
    named = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
    hint = "`ingestion-monitor items list` names the items there are; a new id is on it after the next check"
    raise ConfigError([f"not on the work list of {target}: {named}; nothing was changed. {hint}"])
