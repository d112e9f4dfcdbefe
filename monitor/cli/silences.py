"""`silences …`: adds, lists and expires silences."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.completion import matchers
from monitor.cli.options import AsJson, By, ConfigPath, Limit, group
from monitor.cli.session import (
    author_name,
    clean_comment,
    load,
    open_app,
    parse_duration_option,
    parse_time,
    print_json,
    print_lines,
    require_found,
    terminal_width,
)
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from monitor.config import Config
    from monitor.model import Incident, Silence
    from monitor.notifications.routing import Matchers

app = group("Silences: no notifications about an incident for a while.")

_MAX_INCIDENTS = 1_000


@app.command()
def add(
    config: ConfigPath = None,
    incident: Annotated[
        list[str] | None,
        typer.Option(
            "--incident",
            "-i",
            metavar="NUMBERS",
            help="Match the cause, target and group of these incidents and of no others: 7, or 7,9,12-15.",
            show_default=False,
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match",
            "-m",
            help="ATTRIBUTE=PATTERN, with * and ?; attributes are team, cause, target, group, severity, environment. "
            "May be repeated: all attributes must match, each by any of its patterns.",
            metavar="ATTRIBUTE=PATTERN",
            show_default=False,
            autocompletion=matchers,
        ),
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="How long, e.g. 4h.", show_default=False)
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="When it ends, e.g. 2026-03-01T06:00 (UTC).", show_default=False),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="When it begins, e.g. 2026-03-01T22:00 (UTC).", show_default="now"),
    ] = None,
    comment: Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="The reason.")] = None,
    author: Annotated[
        str | None, typer.Option("--author", metavar="NAME", help="Who adds it.", show_default="your user")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Silence matching incidents; those still open at its end are notified then.

    Example: ingestion-monitor silences add --incident 7 --for 4h --comment "the provider is on it"
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import writing
    from monitor.incidents import store as incident_store
    from monitor.reports.actions import add_silences
    from monitor.reports.silences import added_silences_json, open_incidents, silence_text

    now, numbers = utcnow(), _numbers(incident or ())
    wanted = _matchers(match or (), with_incident=bool(numbers))
    (starts_at, ends_at, assumed_utc), author = _period(duration, until, start, now), author_name("--author", author)
    with open_app(loaded) as app, writing(app.engine) as conn:
        found = [require_found(incident_store.find(conn, number), number) for number in numbers]
        silences = add_silences(
            conn,
            found,
            wanted,
            starts_at=starts_at,
            ends_at=ends_at,
            comment=clean_comment(comment),
            author=author,
            now=now,
        )
        unresolved = open_incidents(conn)
    if as_json:
        print_json(added_silences_json(silences, incidents=unresolved, now=now))
        return
    remarks = [*_remarks(loaded, wanted, found)]
    if assumed_utc:
        remarks.insert(0, "Times without an offset were taken as UTC.")
    for number, silence in enumerate(silences, 1):
        last = number == len(silences)
        print_lines(silence_text(silence, incidents=unresolved, now=now, remarks=remarks if last else []))


def _numbers(texts: Sequence[str]) -> list[int]:
    """The incidents' numbers, each once. Raises ConfigError if one can't be read."""
    from monitor.notifications.batching import parse_numbers

    try:
        found = [number for text in texts for number in parse_numbers(text, at_most=_MAX_INCIDENTS)]
    except ValueError:
        shown = ", ".join(f"{text!a}" for text in texts)
        raise ConfigError(
            [f"--incident: {shown} are no numbers of incidents; write 7, or 7,9,12-15 (at most {_MAX_INCIDENTS})"]
        ) from None
    return list(dict.fromkeys(found))


def _matchers(match: Sequence[str], *, with_incident: bool) -> "Matchers":
    from monitor.incidents.silences import parse_matchers, validate_matchers

    matchers = parse_matchers(match)
    if not with_incident and not matchers:
        raise ConfigError(["say what to silence: --incident 7, or --match cause=outage"])
    problems = [f"--match: {problem}" for problem in validate_matchers(matchers)]
    if with_incident:
        overlapping = [name for name in matchers if name in {"cause", "target", "group"}]
        problems += [f"--match: --incident sets {name} already: leave one of them out" for name in overlapping]
    if problems:
        raise ConfigError(problems)
    return matchers


def _period(
    duration: str | None, until: str | None, start_text: str | None, now: datetime
) -> tuple[datetime, datetime, bool]:
    """Start and end of a silence, and whether UTC had to be assumed."""
    from monitor.reports.actions import MAX_SILENCE, MIN_SILENCE
    from monitor.reports.formatting import format_time

    if (duration is None) == (until is None):
        raise ConfigError(["say how long with --for 4h, or until when with --until 2026-03-01T06:00, but not both"])
    start, assumed = (now, False) if start_text is None else parse_time("--from", start_text)
    start = max(start, now)  # a silence changes nothing in the past
    if duration is not None:
        end = start + parse_duration_option(
            "--for", duration, minimum=MIN_SILENCE, maximum=MAX_SILENCE, examples='"30m" or "1d12h"'
        )
    else:
        end, assumed_too = parse_time("--until", until or "")
        assumed = assumed or assumed_too
        if end <= start:
            after = "now" if start == now else f"its start, {format_time(start)} UTC"
            raise ConfigError([f"--until: {format_time(end)} UTC is not after {after}; give a later time"])
    return start, end, assumed


def _remarks(config: "Config", matchers: "Matchers", incidents: "Sequence[Incident]") -> Iterator[str]:
    from fnmatch import fnmatchcase

    from monitor.model import IncidentState
    from monitor.notifications.texts import channel_target

    for incident in incidents:
        if incident.state is IncidentState.RESOLVED:
            yield f"Incident {incident.id} is resolved: this silences later incidents with the same cause and target."
    names = [target.name for target in config.targets] + [channel_target(each.name) for each in config.channels]
    for pattern in matchers.get("target", ()):
        if not any(fnmatchcase(name, pattern) for name in names):
            yield f"No configured target matches {pattern}; choose from {', '.join(names)}."


@app.command("list")
def listing(
    config: ConfigPath = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Expired ones too.")] = False,
    limit: Limit = 1000,
    as_json: AsJson = False,
) -> None:
    """List silences, newest first: those in force and to come, or all.

    Example: ingestion-monitor silences list
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading
    from monitor.reports.silences import silences_json, silences_text, silences_view

    with open_app(loaded) as app, reading(app.engine) as conn:
        view = silences_view(conn, show_all=show_all, limit=limit, now=utcnow())
    if as_json:
        print_json(silences_json(view))
    elif view.silences:
        print_lines(silences_text(view, width=terminal_width()))
    else:
        print_lines("No silences." if show_all else "No silence is in force or to come.")


@app.command()
def expire(
    silence_id: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Its number, as `silences list` prints it.")],
    config: ConfigPath = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """End a silence now: the openings that it suppressed are sent with the next delivery.

    Example: ingestion-monitor silences expire 3
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import writing
    from monitor.incidents import silence_store
    from monitor.reports.silences import open_incidents, silence_json

    now, user = utcnow(), author_name("--by", by)
    with open_app(loaded) as app, writing(app.engine) as conn:
        silence = silence_store.find(conn, silence_id, lock=True)
        if silence is None:
            raise ConfigError([f"there is no silence {silence_id}; `ingestion-monitor silences list --all` has all"])
        silence_store.expire(conn, silence_id, by=user, now=now)
        unresolved = open_incidents(conn)
        ended = require_found(silence_store.find(conn, silence_id), silence_id)
    if as_json:
        print_json(silence_json(ended, incidents=unresolved, now=now))
    else:
        print_lines(_expired_text(silence, unresolved, now))


def _expired_text(silence: "Silence", open_incidents: "list[Incident]", now: datetime) -> str:
    from monitor.reports.formatting import format_time
    from monitor.reports.silences import matching_incidents

    if silence.ends_at <= now:
        user = f", expired by {silence.expired_by}" if silence.expired_by else ""
        return f"Silence {silence.id} ended already, at {format_time(silence.ends_at)} UTC{user}."
    if not silence.is_active(now):
        return f"Silence {silence.id} is ended before it began."
    unsent = [f"#{each.id}" for each in matching_incidents(silence, open_incidents) if each.silence_id is not None]
    if not unsent:
        return f"Silence {silence.id} is ended. It suppressed no opening."
    return (
        f"Silence {silence.id} is ended. Sent with the next delivery, unless another silence matches: "
        f"{', '.join(unsent)}."
    )
