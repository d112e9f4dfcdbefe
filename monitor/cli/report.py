"""`report`: how the targets are, how they were, and what changed since the last report."""

from datetime import timedelta
from pathlib import Path

from monitor.cli.reporting import gather
from monitor.cli.session import can_print, duration, known_target, load, opened, print_json, print_lines
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
    period = duration("--since", since, shortest=SHORTEST, longest=LONGEST, such_as='"24h", "7d" or "90d"')
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


def _print(overview: Overview, form: str) -> None:
    match form:
        case "json":
            print_json(overview_json(overview))
        case "csv":
            print_lines(overview_csv(overview).removesuffix("\n"))
        case _:
            print_lines(overview_text(overview, ascii_only=not can_print(BLOCKS)))
