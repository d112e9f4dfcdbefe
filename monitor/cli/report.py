"""`report`: how the targets are, how they were, and what changed since the last report."""

import sys
from datetime import timedelta
from pathlib import Path

from monitor.cli.reporting import gather
from monitor.cli.session import known_target, load, opened, print_json, print_lines
from monitor.config.durations import parse_duration
from monitor.errors import ConfigError
from monitor.report.overview import Overview
from monitor.report.overview_csv import overview_csv
from monitor.report.overview_json import overview_json
from monitor.report.overview_text import overview_text
from monitor.report.sparklines import BLOCKS
from monitor.store import reports
from monitor.store.engine import reading, writing
from monitor.wiring import utcnow

__all__ = ["report"]

SHORTEST, LONGEST = timedelta(hours=1), timedelta(days=3653)
FORMATS = ("text", "json", "csv")


def report(path: Path | None, target: str | None, since: str, form: str, *, peek: bool) -> None:
    """Prints the report; then, unless it was a peek or has no changes in it (CSV), remembers how far it told.

    Raises:
        ConfigError: an option is wrong, or there is no such target.
        StoreError: the database can't be used.
    """
    period = _period(since)
    if form not in FORMATS:
        raise ConfigError([f"--format: {form!a} is none of {', '.join(FORMATS)}"])
    with opened(load(path)) as app:
        known_target(app, target)
        with reading(app.engine) as conn:
            overview, told = gather(conn, app.config, target=target, since=period, now=utcnow())
        _print(overview, form)
        if peek or form == "csv":
            return
        with writing(app.engine) as conn:
            for name, how_far in told.items():
                reports.remember(conn, target=name, told=how_far)


def _period(since: str) -> timedelta:
    try:
        period = parse_duration(since)
    except ValueError:
        period = timedelta(0)
    if not SHORTEST <= period <= LONGEST:
        sentence = (
            f'--since: {since!a} is no duration from 1h to 3653d (ten years); write it as in "24h", "7d" or "90d"'
        )
        raise ConfigError([sentence])
    return period


def _print(overview: Overview, form: str) -> None:
    match form:
        case "json":
            print_json(overview_json(overview))
        case "csv":
            print_lines(overview_csv(overview).removesuffix("\n"))
        case _:
            print_lines(overview_text(overview, ascii_only=_ascii_only()))


def _ascii_only() -> bool:
    """Whether stdout can't carry the blocks of the sparklines."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False
