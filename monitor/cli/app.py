"""The command tree: names, options and help. Each command hands over to the module that does it, imported only then."""

from pathlib import Path
from typing import Annotated

import typer

from monitor import __version__
from monitor.cli.options import AsJson, ConfigPath, LogLevel, TargetName

__all__ = ["app"]

app = typer.Typer(
    name="ingestion-monitor",
    help="Watches what a hosted data engine does with your uploads: history, incidents, and what to check.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="The configuration.", no_args_is_help=True, rich_markup_mode=None)
db_app = typer.Typer(help="The monitor's own database.", no_args_is_help=True, rich_markup_mode=None)
incidents_app = typer.Typer(help="Incidents: what is or was wrong.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(db_app, name="db")
app.add_typer(incidents_app, name="incidents")


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
    slot: Annotated[
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
        slot=slot,
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
def sandbox(
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    item_seconds: Annotated[
        float, typer.Option("--item-seconds", min=0, help="How long an item takes through all its stages.")
    ] = 6.0,
    token_seconds: Annotated[float, typer.Option("--token-seconds", min=1, help="How long a token lives.")] = 3600.0,
) -> None:
    """Serve a simulated data engine that speaks Gloo's API, with faults on demand.

    Example: ingestion-monitor sandbox --port 8080
    """
    from monitor.cli.sandbox import sandbox as command

    command(host=host, port=port, item_seconds=item_seconds, token_seconds=token_seconds)


@config_app.command("check")
def config_check(config: ConfigPath = None) -> None:
    """Read the configuration and list every problem, each with its remedy. Nothing is contacted.

    Example: ingestion-monitor config check --config monitor.toml
    """
    from monitor.cli.config import check as command

    command(config)


@db_app.command("upgrade")
def db_upgrade(config: ConfigPath = None) -> None:
    """Bring the database's schema to this program's version.

    Example: ingestion-monitor db upgrade
    """
    from monitor.cli.db import upgrade as command

    command(config)


@db_app.command("current")
def db_current(config: ConfigPath = None) -> None:
    """Tell the schema's version, and whether it is this program's.

    Example: ingestion-monitor db current
    """
    from monitor.cli.db import current as command

    raise typer.Exit(command(config))


@incidents_app.command("list")
def incidents_list(
    config: ConfigPath = None,
    target: TargetName = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Resolved ones too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first: the open ones, or all.

    Example: ingestion-monitor incidents list --all
    """
    from monitor.cli.incidents import listing as command

    command(config, target, limit, show_all=show_all, as_json=as_json)


@incidents_app.command("show")
def incidents_show(
    incident_id: Annotated[
        int, typer.Argument(min=1, max=2**63 - 1, help="Its number, as `incidents list` prints it.")
    ],
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Show all there is to know about one incident: evidence, items, what to check, what happened.

    Example: ingestion-monitor incidents show 3
    """
    from monitor.cli.incidents import show as command

    command(config, incident_id, as_json=as_json)
