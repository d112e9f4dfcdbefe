"""`report`: the state of the targets, its trend, and what changed since the last report."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.completion import channel_names, one_of
from monitor.cli.exit_codes import UNREACHABLE
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

if TYPE_CHECKING:
    from monitor.app import App
    from monitor.reports.changes import ReportCursor
    from monitor.reports.overview import Overview

_MAX_DETAILED = 100
"""Targets with charts in an HTML file: more would make it slow to open."""
FORMATS = ("text", "json", "csv", "markdown", "html")


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
            help="text, json, markdown for a ticket, html: one file that opens offline, or csv: the trend as rows.",
            show_default="text",
            autocompletion=one_of(*FORMATS),
        ),
    ] = None,
    as_json: AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file, which only you can read.", show_default="stdout"),
    ] = None,
    send: Annotated[
        str | None,
        typer.Option(
            "--send",
            metavar="CHANNEL",
            help="Mail or post it through this channel, once.",
            show_default=False,
            autocompletion=channel_names,
        ),
    ] = None,
    peek: Annotated[
        bool, typer.Option("--peek", help="Do not count this as the last report: the next one repeats its changes.")
    ] = False,
) -> None:
    """Report states, trends, and changes since the last report.

    Exit code: 0, or with --send 4 if the channel did not take it.

    Example: ingestion-monitor report --since 30d
    """
    from monitor.reports.build import MAX_SINCE, MIN_SINCE, build_report

    period = parse_duration_option(
        "--since", since, minimum=MIN_SINCE, maximum=MAX_SINCE, examples='"24h", "7d" or "90d"'
    )
    chosen = _format(form, as_json=as_json)
    _require_one_way(send, form, output)
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading

    with open_app(loaded) as app:
        require_known_target(app, target)
        channel = None if send is None else _channel(app, send)
        with reading(app.engine) as conn:
            overview, cursors = build_report(conn, app.config, target=target, since=period, now=utcnow())
        if channel is not None:
            sent = _send(app, channel, overview, as_json=as_json)
            if not sent:
                raise typer.Exit(UNREACHABLE)
        else:
            _print(app, overview, chosen, output)
        if not peek and chosen != "csv":  # CSV has no changes in it
            _save(app, cursors)


def _require_one_way(send: str | None, form: str | None, output: Path | None) -> None:
    """Raises ConfigError for options that contradict each other, or a file that can't be written."""
    if send is not None and form not in {None, "json"}:
        raise ConfigError([f"--send contradicts --format {form}: the channel decides the form; leave --format out"])
    if send is not None and output is not None:
        raise ConfigError(["--send contradicts --output: leave one of them out"])
    if output is not None:
        from monitor.cli.files import require_writable_name

        require_writable_name("--output", output)


def _print(app: "App", overview: "Overview", form: str, output: Path | None) -> None:
    if form == "json" and output is None:
        from monitor.reports.overview_json import overview_json

        print_json(overview_json(overview))
        return
    text = _text(app, overview, form, to_file=output is not None)
    if output is None:
        print_lines(text)
        return
    from monitor.cli.files import write_file
    from monitor.database.text import escape_bidirectional

    remedy = "with --output name a file that you may write"
    write_file(output, f"{escape_bidirectional(text)}\n", mode=0o600, force=True, remedy=remedy)


def _text(app: "App", overview: "Overview", form: str, *, to_file: bool) -> str:
    """The report in a format, without a newline at its end."""
    match form:
        case "json":
            import json

            from monitor.reports.overview_json import overview_json

            return json.dumps(overview_json(overview), indent=2, ensure_ascii=False)
        case "csv":
            from monitor.reports.overview_json import overview_csv

            return overview_csv(overview).removesuffix("\n")
        case "markdown":
            from monitor.reports.document import report_document
            from monitor.reports.overview_markdown import report_markdown

            document = report_document(overview, public_url=app.config.web.public_url)
            return report_markdown(document).removesuffix("\n")
        case "html":
            from monitor.reports.html.report_file import report_html

            return report_html(overview, public_url=app.config.web.public_url, details=_MAX_DETAILED)
        case _:
            from monitor.model.sparkline import BLOCKS
            from monitor.reports.overview_text import overview_text

            if to_file:
                return overview_text(overview)
            return overview_text(overview, ascii_only=not can_print(BLOCKS), width=terminal_width())


def _channel(app: "App", name: str) -> str:
    """A channel that takes reports. Raises ConfigError if there is none of this name, or it takes none."""
    from monitor.notifications.routing import LOG_CHANNEL

    known = {LOG_CHANNEL: True, **{each.name: each.takes_reports for each in app.config.channels}}
    if known.get(name):
        return name
    able = ", ".join(each for each, takes in known.items() if takes)
    if name in known:
        raise ConfigError([f"--send: the channel {name} raises alerts and takes no reports; those that do: {able}"])
    raise ConfigError([f"--send: there is no channel {name!a}; those that take reports: {able}"])


def _send(app: "App", channel: str, overview: "Overview", *, as_json: bool) -> bool:
    """Sends the report once, and prints how that ended. Whether it was delivered, if only to some recipients."""
    from monitor.app.channels import send_now
    from monitor.cli import event_loop
    from monitor.notifications.channels import SendOutcome
    from monitor.reports.report_message import as_message

    message = as_message(overview, public_url=app.config.web.public_url)
    result = event_loop.run(send_now(app.config, channel, message))
    delivered = result.outcome is SendOutcome.DELIVERED
    if as_json:
        print_json({"channel": channel, "outcome": result.outcome.value, "reason": result.reason})
    else:
        words = "sent to" if delivered else "not delivered to"
        print_lines(f"The report was {words} {channel}: {result.reason}.")
    return delivered


def _save(app: "App", cursors: "Mapping[str, ReportCursor]") -> None:
    from monitor.database.engine import writing
    from monitor.reports.changes import save_cursor

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
