"""`report`: the state of the targets, its trend, and what changed since the last report."""

from datetime import timedelta
from typing import Annotated

import typer

from monitor.cli.completion import one_of
from monitor.cli.options import AsJson, ConfigPath, TargetName
from monitor.cli.session import (
    can_print,
    load,
    open_app,
    parse_duration_option,
    print_json,
    print_lines,
    require_known_target,
    terminal_width,
)
from monitor.errors import ConfigError

MIN_DURATION, MAX_DURATION = timedelta(hours=1), timedelta(days=3653)
FORMATS = ("text", "json", "csv")


def report(
    config: ConfigPath = None,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="How far back the trend goes: 1h to 3653d.")
    ] = "7d",
    target: TargetName = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="text, json, or csv: the trend as rows.",
            show_default="text",
            autocompletion=one_of(*FORMATS),
        ),
    ] = None,
    as_json: AsJson = False,
    peek: Annotated[
        bool, typer.Option("--peek", help="Do not count this as the last report: the next one repeats its changes.")
    ] = False,
) -> None:
    """Report states, trends, and changes since the last report.

    Example: ingestion-monitor report --since 30d
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading, writing
    from monitor.model.sparkline import BLOCKS
    from monitor.reports.build import build_report
    from monitor.reports.changes import save_cursor
    from monitor.reports.overview_json import overview_csv, overview_json
    from monitor.reports.overview_text import overview_text

    period = parse_duration_option(
        "--since", since, minimum=MIN_DURATION, maximum=MAX_DURATION, examples='"24h", "7d" or "90d"'
    )
    form = _format(form, as_json=as_json)
    with open_app(loaded) as app:
        require_known_target(app, target)
        with reading(app.engine) as conn:
            overview, cursors = build_report(conn, app.config, target=target, since=period, now=utcnow())
        if form == "json":
            print_json(overview_json(overview))
        elif form == "csv":
            print_lines(overview_csv(overview).removesuffix("\n"))
        else:
            print_lines(overview_text(overview, ascii_only=not can_print(BLOCKS), width=terminal_width()))
        if peek or form == "csv":  # CSV has no changes in it
            return
        with writing(app.engine) as conn:
            for name, cursor in cursors.items():
                save_cursor(conn, target=name, cursor=cursor)


def _format(form: str | None, *, as_json: bool) -> str:
    """The format asked for. Raises ConfigError for an unknown one, or if --json contradicts it."""
    if form is not None and form not in FORMATS:
        raise ConfigError([f"--format: {form!a} is none of {', '.join(FORMATS)}"])
    if as_json and form not in {None, "json"}:
        raise ConfigError([f"--json contradicts --format {form}: leave one of them out"])
    return "json" if as_json else form or "text"
