"""The command tree: names, options and help. Each command hands over to the module that does it, imported only then."""

from pathlib import Path
from typing import Annotated

import typer

from monitor import __version__
from monitor.cli.config_app import config_app
from monitor.cli.db_app import db_app
from monitor.cli.incidents_app import incidents_app
from monitor.cli.items_app import items_app
from monitor.cli.notifications_app import notifications_app
from monitor.cli.options import AsJson, ConfigPath, LogLevel, TargetName
from monitor.cli.rules_app import rules_app
from monitor.cli.sandbox_app import sandbox
from monitor.cli.silences_app import silences_app

app = typer.Typer(
    name="ingestion-monitor",
    help="Watches what a hosted data engine does with your uploads: history, incidents, and what to check.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(config_app, name="config")
app.add_typer(db_app, name="db")
app.add_typer(items_app, name="items")
app.add_typer(incidents_app, name="incidents")
app.add_typer(notifications_app, name="notifications")
app.add_typer(rules_app, name="rules")
app.add_typer(silences_app, name="silences")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Watches what a hosted data engine does with your uploads: history, incidents, and what to check."""


@app.command()
def demo(
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Leave configuration, sync log and database in this folder.")
    ] = None,
) -> None:
    """Show the main job end to end against the built-in sandbox, with nothing to set up.

    Example: ingestion-monitor demo
    """
    from monitor.cli.demo import demo as command

    raise typer.Exit(command(keep))


@app.command()
def init(
    path: Annotated[
        Path | None, typer.Option("--path", "-p", help="A folder, or a file that ends with .toml.", show_default=".")
    ] = None,
    provider: Annotated[str, typer.Option("--provider", help="gloo, or generic for any other API.")] = "gloo",
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", help="Where the API is, such as the sandbox's.", show_default="the provider's own"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write a commented monitor.toml and a .env to fill in. It asks nothing.

    Example: ingestion-monitor init
    """
    from monitor.cli.init import init as command

    command(path, provider, force, base_url)


@app.command()
def doctor(
    config: ConfigPath = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="Only this target; may be repeated.", show_default="all")
    ] = None,
    send_test: Annotated[bool, typer.Option("--send-test", help="Send a test message on each channel.")] = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
) -> None:
    """Try each part for real, and say what is wrong and which line to change.

    It asks the API for a token, one item and the list, and changes nothing; only a SQLite database that is missing or
    old is brought to this program's schema, as `check` would. Exit code: 0 no problem (there may be warnings), 2 the
    configuration is wrong, 3 another part failed.

    Example: ingestion-monitor doctor --send-test
    """
    from monitor.cli.doctor.command import DoctorOptions
    from monitor.cli.doctor.command import doctor as command

    options = DoctorOptions(targets=tuple(target or ()), send_test=send_test, as_json=as_json, log_level=log_level)
    raise typer.Exit(command(config, options))


@app.command()
def check(
    config: ConfigPath = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", "-t", help="Only this target; may be repeated.", show_default="all")
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing when all is well, as cron users expect.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask the API and print, but write and send nothing.")
    ] = False,
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", help="Stop asking after this long, e.g. 4m.", show_default="as configured"),
    ] = None,
    run_key: Annotated[
        str | None, typer.Option("--slot", help="Name of the slot that this run spends: it never runs twice.")
    ] = None,
    fail_on: Annotated[
        str | None, typer.Option("--fail-on", help="Exit 1 when any of these holds: failed, stuck, unknown, incident.")
    ] = None,
    skip_ok: Annotated[
        bool, typer.Option("--skip-ok", help="Exit 0, not 5, when another run holds the target.")
    ] = False,
    log_level: LogLevel = None,
) -> None:
    """Check every tracked item once, store the snapshot, update incidents, deliver messages.

    Example: ingestion-monitor check --config monitor.toml --fail-on failed,incident
    """
    from monitor.cli.check import CheckOptions
    from monitor.cli.check import check as command

    options = CheckOptions(
        targets=tuple(target or ()),
        as_json=as_json,
        quiet=quiet,
        dry_run=dry_run,
        deadline=deadline,
        run_key=run_key,
        fail_on=fail_on,
        skip_ok=skip_ok,
        log_level=log_level,
    )
    raise typer.Exit(command(config, options))


@app.command()
def daemon(config: ConfigPath = None, log_level: LogLevel = None) -> None:
    """Run every target on its schedule, and deliver messages, until a signal.

    Example: ingestion-monitor daemon --config /etc/monitor.toml
    """
    from monitor.cli.daemon import daemon as command

    raise typer.Exit(command(config, log_level))


@app.command()
def notify(config: ConfigPath = None, log_level: LogLevel = None) -> None:
    """Deliver the messages that are due, once; `check` does so after its last target.

    Example: ingestion-monitor notify
    """
    from monitor.cli.notify import notify as command

    raise typer.Exit(command(config, log_level))


@app.command()
def report(
    config: ConfigPath = None,
    since: Annotated[str, typer.Option("--since", help="How far back the trend goes: 1h to 3653d.")] = "7d",
    target: TargetName = None,
    form: Annotated[str, typer.Option("--format", help="text, json, or csv: the trend as rows.")] = "text",
    peek: Annotated[
        bool, typer.Option("--peek", help="Do not count as the last report: the next one tells the same again.")
    ] = False,
) -> None:
    """Report how the targets are, how they were, and what changed since the last report.

    Example: ingestion-monitor report --since 30d
    """
    from monitor.cli.report import report as command

    command(config, target, since, form, peek=peek)


@app.command()
def history(
    config: ConfigPath = None,
    target: TargetName = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many runs, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the snapshots of past runs, newest first.

    Example: ingestion-monitor history --limit 5
    """
    from monitor.cli.history import history as command

    command(config, target, limit, as_json)


@app.command()
def gate(
    target: Annotated[str, typer.Argument(help="The target whose API the bulk work would use.", show_default=False)],
    config: ConfigPath = None,
    wait: Annotated[
        str | None, typer.Option("--wait", help="Wait so long for it to open, e.g. 10m.", show_default="answer at once")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether bulk work on a target may proceed, from what is stored: exit code 0, or 75 to pause.

    It is closed by an open incident spending_limit, rate_limited or outage, and when no run ended within two
    intervals of the schedule.

    Example: ingestion-monitor gate gloo-prod --wait 10m && ./upload-more
    """
    from monitor.cli.gate import gate as command

    raise typer.Exit(command(config, target, wait, as_json=as_json))


app.command()(sandbox)
