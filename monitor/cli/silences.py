"""`silences …`: makes, lists and ends them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from sqlalchemy import Connection

from monitor.app import utcnow
from monitor.cli.option_values import author_name, clean_comment, parse_time
from monitor.cli.session import load, open_app, parse_duration_option, print_json, print_lines
from monitor.config import Config
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.silences import matchers_for, parse_matchers, validate_matchers
from monitor.model import Incident, IncidentState, Silence
from monitor.notifications.routing import Matchers
from monitor.notifications.texts import channel_target
from monitor.reports.formatting import format_time
from monitor.reports.incidents import matching_incidents, silence_json, silence_text, silences_text

MIN_DURATION, MAX_DURATION = timedelta(seconds=1), timedelta(days=3660)
_MAX_OPEN = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceOptions:
    """The command line of `silences add`."""

    incident: int | None = None
    match: tuple[str, ...] = ()
    duration: str | None = None
    until: str | None = None
    start: str | None = None
    comment: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Period:
    """From when to when."""

    start: datetime
    end: datetime
    remarks: tuple[str, ...] = ()


def add(path: Path | None, options: SilenceOptions, *, as_json: bool) -> None:
    """Makes a silence and prints what it matches.

    Raises:
        ConfigError: an option is wrong, or there is no such incident; nothing was stored.
        StoreError: the database can't be used.
    """
    now = utcnow()
    matchers, period, author = _matchers(options), _period(options, now), author_name("--author", options.author)
    config = load(path)
    with open_app(config) as app, writing(app.engine) as conn:
        incident = _incident(conn, options.incident)
        new_silence = silence_store.add(
            conn,
            matchers={**(matchers_for(incident) if incident else {}), **matchers},
            starts_at=period.start,
            ends_at=period.end,
            comment=clean_comment(options.comment),
            author=author,
            now=now,
        )
        found = incident_store.list_incidents(conn, open_only=True, limit=_MAX_OPEN)
    if as_json:
        print_json(silence_json(new_silence, incidents=found, now=now))
        return
    remarks = (*period.remarks, *_remarks(config, matchers, incident))
    print_lines(silence_text(new_silence, incidents=found, now=now, remarks=remarks))


def _matchers(options: SilenceOptions) -> Matchers:
    matchers = parse_matchers(options.match)
    if options.incident is None and not matchers:
        raise ConfigError(["say what to silence: --incident 7, or --match cause=outage"])
    problems = [f"--match: {problem}" for problem in validate_matchers(matchers)]
    if options.incident is not None:
        overlapping = [name for name in matchers if name in {"cause", "target", "group"}]
        problems += [f"--match: {name} is what --incident says already: leave one of them out" for name in overlapping]
    if problems:
        raise ConfigError(problems)
    return matchers


def _period(options: SilenceOptions, now: datetime) -> _Period:
    if (options.duration is None) == (options.until is None):
        raise ConfigError(["say how long with --for 4h, or until when with --until 2026-03-01T06:00, but not both"])
    start, assumed = (now, False) if options.start is None else parse_time("--from", options.start)
    start = max(start, now)  # the past is told as it was
    if options.duration is not None:
        end = start + parse_duration_option(
            "--for", options.duration, minimum=MIN_DURATION, maximum=MAX_DURATION, examples='"30m" or "1d12h"'
        )
    else:
        end, assumed_too = parse_time("--until", options.until or "")
        assumed = assumed or assumed_too
        if end <= start:
            start_text = "now" if start == now else f"its start, {format_time(start)} UTC"
            raise ConfigError([f"--until: {format_time(end)} UTC is not after {start_text}; name a later moment"])
    return _Period(start=start, end=end, remarks=("Times without an offset were taken as UTC.",) if assumed else ())


def _incident(conn: Connection, number: int | None) -> Incident | None:
    if number is None:
        return None
    found = incident_store.find(conn, number)
    if found is None:
        raise ConfigError([f"there is no incident {number}; `ingestion-monitor incidents list --all` has all"])
    return found


def _remarks(config: Config, matchers: Matchers, incident: Incident | None) -> Iterator[str]:
    if incident is not None and incident.state is IncidentState.RESOLVED:
        yield f"Incident {incident.id} is over: this is about what comes after it under the same cause and target."
    names = [target.name for target in config.targets] + [channel_target(each.name) for each in config.channels]
    for pattern in matchers.get("target", ()):
        if not any(fnmatchcase(name, pattern) for name in names):
            yield f"No target like {pattern} is configured here; there are {', '.join(names)}."


def listing(path: Path | None, *, show_all: bool, as_json: bool) -> None:
    """Prints silences, newest first.

    Raises:
        StoreError: the database can't be used.
    """
    now = utcnow()
    with open_app(load(path)) as app, reading(app.engine) as conn:
        found = silence_store.list_silences(conn, ending_after=None if show_all else now)
        open_incidents = incident_store.list_incidents(conn, open_only=True, limit=_MAX_OPEN)
    if as_json:
        print_json([silence_json(each, incidents=open_incidents, now=now) for each in found])
    elif found:
        print_lines(silences_text(found, incidents=open_incidents, now=now))
    else:
        print_lines("No silences." if show_all else "No silence is in force or to come.")


def expire(path: Path | None, silence_id: int, by: str | None) -> None:
    """Ends a silence now.

    Raises:
        ConfigError: there is none with that number.
        StoreError: the database can't be used.
    """
    now, user = utcnow(), author_name("--by", by)
    with open_app(load(path)) as app, writing(app.engine) as conn:
        silence = silence_store.find(conn, silence_id, lock=True)
        if silence is None:
            raise ConfigError([f"there is no silence {silence_id}; `ingestion-monitor silences list --all` has all"])
        silence_store.expire(conn, silence_id, by=user, now=now)
        open_incidents = incident_store.list_incidents(conn, open_only=True, limit=_MAX_OPEN)
    print_lines(_expired_text(silence, open_incidents, now))


def _expired_text(silence: Silence, open_incidents: list[Incident], now: datetime) -> str:
    if silence.ends_at <= now:
        user = f", ended by {silence.expired_by}" if silence.expired_by else ""
        return f"Silence {silence.id} was over already, since {format_time(silence.ends_at)} UTC{user}."
    if not silence.is_active(now):
        return f"Silence {silence.id} is ended before it began."
    unsent = [f"#{each.id}" for each in matching_incidents(silence, open_incidents) if each.silence_id is not None]
    if not unsent:
        return f"Silence {silence.id} is ended. It kept no opening back."
    sent_text = f"Told with the next delivery, unless another silence holds: {', '.join(unsent)}."
    return f"Silence {silence.id} is ended. {sent_text}"
