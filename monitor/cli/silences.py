"""`silences …`: makes, lists and ends them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from sqlalchemy import Connection

from monitor.app import utcnow
from monitor.cli.asked import comment_of, moment_of, name_of
from monitor.cli.session import duration, load, opened, print_json, print_lines
from monitor.config import Config
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError
from monitor.incidents import silence_store as silences
from monitor.incidents import store as incidents
from monitor.incidents.silences import matchers_for, parse_matchers, validate_matchers
from monitor.model import Incident, IncidentState, Silence
from monitor.notifications.routing import Matchers
from monitor.notifications.texts import channel_target
from monitor.reports.formatting import moment
from monitor.reports.incidents import matched, silence_json, silence_text, silences_text

SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=3660)
_OPEN = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSilence:
    """The command line of `silences add`."""

    incident: int | None = None
    match: tuple[str, ...] = ()
    lasting: str | None = None
    until: str | None = None
    start: str | None = None
    comment: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """From when to when."""

    start: datetime
    end: datetime
    remarks: tuple[str, ...] = ()


def add(path: Path | None, wanted: NewSilence, *, as_json: bool) -> None:
    """Makes a silence and prints what it matches.

    Raises:
        ConfigError: an option is wrong, or there is no such incident; nothing was stored.
        StoreError: the database can't be used.
    """
    now = utcnow()
    asked, span, author = _asked(wanted), _span(wanted, now), name_of("--author", wanted.author)
    config = load(path)
    with opened(config) as app, writing(app.engine) as conn:
        about = _incident(conn, wanted.incident)
        made = silences.add(
            conn,
            matchers={**(matchers_for(about) if about else {}), **asked},
            starts_at=span.start,
            ends_at=span.end,
            comment=comment_of(wanted.comment),
            author=author,
            now=now,
        )
        found = incidents.list_incidents(conn, open_only=True, limit=_OPEN)
    if as_json:
        print_json(silence_json(made, incidents=found, now=now))
        return
    remarks = (*span.remarks, *_remarks(config, asked, about))
    print_lines(silence_text(made, incidents=found, now=now, remarks=remarks))


def _asked(wanted: NewSilence) -> Matchers:
    asked = parse_matchers(wanted.match)
    if wanted.incident is None and not asked:
        raise ConfigError(["say what to silence: --incident 7, or --match cause=outage"])
    problems = [f"--match: {said}" for said in validate_matchers(asked)]
    if wanted.incident is not None:
        both = [name for name in asked if name in {"cause", "target", "group"}]
        problems += [f"--match: {name} is what --incident says already: leave one of them out" for name in both]
    if problems:
        raise ConfigError(problems)
    return asked


def _span(wanted: NewSilence, now: datetime) -> _Span:
    if (wanted.lasting is None) == (wanted.until is None):
        raise ConfigError(["say how long with --for 4h, or until when with --until 2026-03-01T06:00, but not both"])
    start, assumed = (now, False) if wanted.start is None else moment_of("--from", wanted.start)
    start = max(start, now)  # the past is told as it was
    if wanted.lasting is not None:
        end = start + duration("--for", wanted.lasting, shortest=SHORTEST, longest=LONGEST, such_as='"30m" or "1d12h"')
    else:
        end, too = moment_of("--until", wanted.until or "")
        assumed = assumed or too
        if end <= start:
            begin = "now" if start == now else f"its start, {moment(start)} UTC"
            raise ConfigError([f"--until: {moment(end)} UTC is not after {begin}; name a later moment"])
    return _Span(start=start, end=end, remarks=("Times without an offset were taken as UTC.",) if assumed else ())


def _incident(conn: Connection, number: int | None) -> Incident | None:
    if number is None:
        return None
    found = incidents.find(conn, number)
    if found is None:
        raise ConfigError([f"there is no incident {number}; `ingestion-monitor incidents list --all` has all"])
    return found


def _remarks(config: Config, asked: Matchers, about: Incident | None) -> Iterator[str]:
    if about is not None and about.state is IncidentState.RESOLVED:
        yield f"Incident {about.id} is over: this is about what comes after it under the same cause and target."
    names = [target.name for target in config.targets] + [channel_target(each.name) for each in config.channels]
    for pattern in asked.get("target", ()):
        if not any(fnmatchcase(name, pattern) for name in names):
            yield f"No target like {pattern} is configured here; there are {', '.join(names)}."


def listing(path: Path | None, *, show_all: bool, as_json: bool) -> None:
    """Prints silences, newest first.

    Raises:
        StoreError: the database can't be used.
    """
    now = utcnow()
    with opened(load(path)) as app, reading(app.engine) as conn:
        found = silences.list_silences(conn, ending_after=None if show_all else now)
        there = incidents.list_incidents(conn, open_only=True, limit=_OPEN)
    if as_json:
        print_json([silence_json(each, incidents=there, now=now) for each in found])
    elif found:
        print_lines(silences_text(found, incidents=there, now=now))
    else:
        print_lines("No silences." if show_all else "No silence is in force or to come.")


def expire(path: Path | None, silence_id: int, by: str | None) -> None:
    """Ends a silence now.

    Raises:
        ConfigError: there is none with that number.
        StoreError: the database can't be used.
    """
    now, who = utcnow(), name_of("--by", by)
    with opened(load(path)) as app, writing(app.engine) as conn:
        silence = silences.find(conn, silence_id, lock=True)
        if silence is None:
            raise ConfigError([f"there is no silence {silence_id}; `ingestion-monitor silences list --all` has all"])
        silences.expire(conn, silence_id, by=who, now=now)
        there = incidents.list_incidents(conn, open_only=True, limit=_OPEN)
    print_lines(_ended(silence, there, now))


def _ended(silence: Silence, there: list[Incident], now: datetime) -> str:
    if silence.ends_at <= now:
        who = f", ended by {silence.expired_by}" if silence.expired_by else ""
        return f"Silence {silence.id} was over already, since {moment(silence.ends_at)} UTC{who}."
    if not silence.is_active(now):
        return f"Silence {silence.id} is ended before it began."
    untold = [f"#{each.id}" for each in matched(silence, there) if each.silence_id is not None]
    if not untold:
        return f"Silence {silence.id} is ended. It kept no opening back."
    told = f"Told with the next delivery, unless another silence holds: {', '.join(untold)}."
    return f"Silence {silence.id} is ended. {told}"
