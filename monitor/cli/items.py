"""`items …`: the tracked items of every sync log, and what the built-in sync log holds."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.completion import known_state_names, state_names, target_names
from monitor.cli.options import AsJson, ConfigPath, TargetName, group
from monitor.cli.session import (
    load,
    open_app,
    parse_duration_option,
    print_json,
    print_lines,
    require_found,
    require_known_target,
    terminal_width,
    unknown_target,
)
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from monitor.app import App
    from monitor.cli.import_items import Reader
    from monitor.reports.item_queries import ItemRow
    from monitor.synclog.builtin import ImportResult

app = group("The items that are monitored, and the built-in sync log.")

MIN_AGE, MAX_AGE = timedelta(0), timedelta(days=36_500)
MAX_REASON_LENGTH = 500
MAX_LISTED = 20

BuiltInTarget = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="The target of the log.",
        show_default="the only target that uses the built-in log",
        autocompletion=target_names,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="FORMAT", help="csv or jsonl.", show_default="guessed from the name, else the content"
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        "--id-column",
        metavar="COLUMN",
        help="Column (or JSON key) of the ids.",
        show_default="item_id, or the only column",
    ),
]


@app.command("list")
def listing(
    config: ConfigPath = None,
    target: TargetName = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="completed, pending, failed, not_found, invalid, unknown, removed or ignored; may be repeated.",
            show_default="all that are tracked",
            autocompletion=state_names,
        ),
    ] = None,
    known_state: Annotated[
        list[str] | None,
        typer.Option(
            "--known-state",
            metavar="STATE",
            help="Only those last known in this state, also while they are unknown; may be repeated.",
            show_default="any",
            autocompletion=known_state_names,
        ),
    ] = None,
    incident: Annotated[
        int | None, typer.Option("--incident", "-i", min=1, max=2**63 - 1, help="Only the items of this incident.")
    ] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only those pending for longer than stuck_after.")] = False,
    group: Annotated[str | None, typer.Option("--group", metavar="GROUP", help="Only this group.")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STATUS", help="Only this status of the API, e.g. CHUNKING.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DURATION", help="Only those in their state for longer, e.g. 2h."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many.")] = 50,
    wide: Annotated[bool, typer.Option("--wide", "-w", help="Shorten nothing to fit the terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """List items: those with a problem first, then the newest.

    Example: ingestion-monitor items list --state failed --state not_found --older-than 2h
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading
    from monitor.incidents import store as incident_store
    from monitor.reports.item_queries import ItemFilter, known_states_of
    from monitor.reports.item_views import items_view, items_view_json, stuck_after
    from monitor.reports.items import items_text

    states, known_states, older = _states(state or ()), _known_states(known_state or ()), _age(older_than)
    now = utcnow()
    require_storable([text for text in (group, stage) if text])
    with open_app(loaded) as app:
        require_known_target(app, target)
        if incident is not None:
            with reading(app.engine) as conn:
                require_found(incident_store.find(conn, incident), incident)
        wanted = ItemFilter(
            target=target,
            states=states,
            known_states=known_states,
            incident_id=incident,
            stuck=stuck,
            group=group,
            stage=stage,
            state_since_before=now - older if older is not None else None,
            stuck_after=stuck_after(app.config),
        )
        with reading(app.engine) as conn:
            view = items_view(conn, wanted, limit=limit, now=now)
    if as_json:
        print_json(items_view_json(view))
        return
    width, known = None if wide else terminal_width(), known_states_of(wanted)
    text = items_text(view.items, total=view.total, now=now, width=width, unknown=view.unknown, known_states=known)
    print_lines(text)


def _states(names: Sequence[str]) -> frozenset[str]:
    from monitor.reports.item_queries import LISTED_STATES

    if unknown := [name for name in names if name not in LISTED_STATES]:
        hint = "; for stuck items use --stuck" if "stuck" in unknown else ""
        raise ConfigError([f"--state: {', '.join(map(ascii, unknown))} is none of {', '.join(LISTED_STATES)}{hint}"])
    return frozenset(names)


def _known_states(names: Sequence[str]) -> frozenset[str]:
    from monitor.model import ItemState

    states = [state.value for state in ItemState if state is not ItemState.UNKNOWN]
    if wrong := [name for name in names if name not in states]:
        raise ConfigError([f"--known-state: {', '.join(map(ascii, wrong))} is none of {', '.join(states)}"])
    return frozenset(names)


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    return parse_duration_option(
        "--older-than", text, minimum=MIN_AGE, maximum=MAX_AGE, examples='"30m", "2h" or "1d12h"'
    )


def require_storable(texts: Sequence[str]) -> Sequence[str]:
    """Returns ids unchanged. Raises ConfigError if one holds a control character, or bytes that are no text."""
    from monitor.database.text import UNPRINTABLE

    if unstorable := [text for text in texts if UNPRINTABLE.search(text)]:
        raise ConfigError([f"{unstorable[0]!a} holds a character that no stored text has; copy it from `items list`"])
    return texts


@app.command()
def show(
    item_id: Annotated[str, typer.Argument(help="Its id in the sync log.")],
    config: ConfigPath = None,
    target: TargetName = None,
    as_json: AsJson = False,
) -> None:
    """Show one item: its entry in the sync log, its state, and every change of it.

    Example: ingestion-monitor items show 6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading
    from monitor.reports.item_views import item_view, item_view_json
    from monitor.reports.items import item_text

    now = utcnow()
    with open_app(loaded) as app:
        require_known_target(app, target)
        row = _find_one(app, item_id, target, now)
        with reading(app.engine) as conn:
            view = item_view(conn, row, now=now)
    if as_json:
        print_json(item_view_json(view))
    else:
        print_lines(item_text(row, view.events, earlier=view.event_count - len(view.events), now=now))


def _find_one(app: "App", item_id: str, target: str | None, now: datetime) -> "ItemRow":
    from monitor.database.engine import reading
    from monitor.reports.item_views import look_up

    require_storable([item_id])
    with reading(app.engine) as conn:
        found = look_up(conn, app.config, item_id, target=target, now=now)
    if len(found.items) == 1:
        return found.items[0]
    if found.items:
        owners = ", ".join(row.target for row in found.items)
        raise ConfigError([f"{len(found.items)} targets have the item {item_id}: {owners}; choose one with --target"])
    if found.waiting:
        where = f"is in the built-in log of {', '.join(found.waiting)}, but no run has read it yet"
        raise ConfigError([f"the item {item_id} {where}; run `ingestion-monitor check`"])
    similar = found.similar
    hint = f"did you mean {' or '.join(similar)}?" if similar else "`ingestion-monitor items list` has them all"
    raise ConfigError([f"no tracked item has the id {item_id}; {hint}"])


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="CSV or JSON lines; - reads standard input.")],
    config: ConfigPath = None,
    target: BuiltInTarget = None,
    file_format: Format = None,
    id_column: IdColumn = None,
    submitted_at_column: Annotated[
        str | None,
        typer.Option(
            "--submitted-at-column", metavar="COLUMN", help="Column of the upload times.", show_default="none"
        ),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option("--group-column", metavar="COLUMN", help="Column to break reports down by.", show_default="none"),
    ] = None,
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="The zone of times without an offset.")
    ] = "UTC",
    time_format: Annotated[
        str,
        typer.Option("--time-format", metavar="FORMAT", help="auto, s, ms, us, ns, julian, or a pattern of strptime."),
    ] = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if any line is bad.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import ids into the built-in sync log, as often as you like. Bad lines are listed, the others imported.

    Example: ingestion-monitor items import uploads.csv --submitted-at-column uploaded_at
    """
    loaded = load(config)
    from dataclasses import asdict

    from monitor.app import utcnow
    from monitor.cli import import_items as files
    from monitor.database.engine import reading
    from monitor.synclog import builtin as builtin_log

    name = files.built_in_target(loaded, target, instead="record new ones there")
    spec = files.file_spec(
        file,
        file_format,
        id_column,
        submitted_at_column=submitted_at_column,
        group_column=group_column,
        time_format=time_format,
        timezone=timezone,
        uuid_ids=files.uuid_ids(loaded, name),
    )
    reader = files.Reader(name=spec.name, now=utcnow(), strict=strict)
    with files.open_stream(file) as stream:
        parsed = files.parse_file(stream, spec)
        with open_app(loaded) as app:
            counts = builtin_log.add(app.engine, target=name, batches=reader.batches(parsed), now=utcnow())
            with reading(app.engine) as conn:
                total = builtin_log.count(conn, target=name)
    if as_json:
        bad_lines = [asdict(bad) for bad in reader.listed]
        times = {
            key: getattr(reader.counts, key) for key in ("future", "future_times", "unreadable", "unreadable_times")
        }
        bad = {"bad": reader.bad, "bad_lines": bad_lines}
        print_json({"target": name, **asdict(counts), **bad, **times, "tracked": total})
    else:
        print_lines(_imported_text(name, counts, reader, total))


def _imported_text(target: str, counts: "ImportResult", reader: "Reader", total: int) -> str:
    from monitor.notifications.texts import format_items
    from monitor.reports.formatting import plural
    from monitor.reports.log_rows import time_problems

    lines = [f"{target}: {counts.new} new, {counts.known} known, {counts.updated} updated"]
    if counts.duplicate:
        lines.append(f"  {plural(counts.duplicate, 'line')} with a duplicate id: the first one counts")
    lines += [
        f"  {plural(each.count, 'line')} {each.what}: {', '.join(each.samples)}"
        for each in time_problems(reader.counts)
        if each.count
    ]
    if reader.bad:
        lines.append(f"  {plural(reader.bad, 'line')} could not be used: listed on stderr")
    return "\n".join([*lines, f"  {format_items(total)} in the built-in log"])


@app.command()
def remove(
    item_ids: Annotated[list[str] | None, typer.Argument(help="Ids to remove.", show_default=False)] = None,
    config: ConfigPath = None,
    target: BuiltInTarget = None,
    from_file: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="A file of ids, as `items import` reads them; - is standard input."
        ),
    ] = None,
    file_format: Format = None,
    id_column: IdColumn = None,
    as_json: AsJson = False,
) -> None:
    """Remove ids from the built-in sync log; the next run marks them as removed.

    Example: ingestion-monitor items remove 6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11
    """
    loaded = load(config)
    import sys

    from monitor.cli import import_items as files
    from monitor.notifications.texts import format_items
    from monitor.synclog import builtin as builtin_log

    if not item_ids and from_file is None:
        raise ConfigError(["items remove: give the ids to remove, or a file of them with --from"])
    name = files.built_in_target(loaded, target, instead="remove them there, or use `items ignore`")
    spec = files.file_spec(from_file or "", file_format, id_column, uuid_ids=files.uuid_ids(loaded, name))
    ids = require_storable(item_ids or ())
    with files.ids_to_remove(ids, from_file, spec) as batches, open_app(loaded) as app:
        counts = builtin_log.remove(app.engine, target=name, batches=batches)
    if counts.unknown:
        unnamed = counts.unknown - len(counts.unknown_ids)
        more = f" and {unnamed} more" if unnamed else ""
        listed = f"not in the built-in log of {name}: {', '.join(counts.unknown_ids)}{more}"
        if not counts.removed:
            raise ConfigError([f"{listed}; nothing was removed"])
        print(listed, file=sys.stderr)
    if as_json:
        print_json({"target": name, "removed": counts.removed, "unknown": counts.unknown})
    else:
        print_lines(f"{name}: {format_items(counts.removed)} removed; the next run takes them off the work list")


@app.command()
def ignore(
    item_ids: Annotated[list[str], typer.Argument(help="Ids to ignore.", show_default=False)],
    config: ConfigPath = None,
    target: TargetName = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; needed unless --undo.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Count and check them again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Exclude items from checks and counts, for example deleted documents; they leave their incidents.

    Example: ingestion-monitor items ignore 6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11 --reason "deleted on purpose"
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import writing
    from monitor.notifications.texts import format_items
    from monitor.runs import worklist

    reason_text, now, ids = _reason(reason, undo=undo), utcnow(), tuple(dict.fromkeys(item_ids))
    with open_app(loaded) as app:
        name = _one_target(app, target)
        with writing(app.engine) as conn:
            _require_on_worklist(worklist.not_on_worklist(conn, target=name, item_ids=require_storable(ids)), name)
            if reason_text is None:
                result = worklist.unignore(conn, target=name, item_ids=ids, now=now)
                done, unchanged = "checked again", "not ignored before"
            else:
                result = worklist.ignore(conn, target=name, item_ids=ids, reason=reason_text, now=now)
                done, unchanged = "ignored from now on", "ignored before"
    if as_json:
        print_json({"target": name, "undo": undo, "changed": result.changed, "unchanged": result.unchanged})
        return
    more = f", {result.unchanged} {unchanged}" if result.unchanged else ""
    print_lines(f"{name}: {format_items(result.changed)} {done}{more}")


def _reason(text: str | None, *, undo: bool) -> str | None:
    if undo:
        if text is not None:
            raise ConfigError(["--reason has no meaning with --undo: leave it out"])
        return None
    reason = (text or "").strip()
    if not (reason and reason.isprintable() and len(reason) <= MAX_REASON_LENGTH):
        raise ConfigError(
            [f"--reason: say why in 1 to {MAX_REASON_LENGTH} printable characters, as in --reason 'deleted on purpose'"]
        )
    return reason


def _one_target(app: "App", name: str | None) -> str:
    names = [each.name for each in app.config.targets]
    if name is None:
        if len(names) > 1:
            raise ConfigError([f"--target: name the target of these items: {', '.join(names)}"])
        return names[0]
    if name not in names:
        raise unknown_target(app.config, name)
    return name


def _require_on_worklist(missing: Sequence[str], target: str) -> None:
    if not missing:
        return
    more = f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
    hint = "`ingestion-monitor items list` has all items; a new id is on it after the next check"
    listed = ", ".join(missing[:MAX_LISTED])
    raise ConfigError([f"not on the work list of {target}: {listed}{more}; nothing was changed. {hint}"])
