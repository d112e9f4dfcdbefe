"""The commands `db …`: names, options and help. Each hands over to the module that does it, imported only then."""

from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath

db_app = typer.Typer(help="The monitor's own database.", no_args_is_help=True, rich_markup_mode=None)


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


@db_app.command("prune")
def db_prune(
    config: ConfigPath = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the past that is older than [retention] says, while everything else goes on.

    Example: ingestion-monitor db prune --dry-run
    """
    from monitor.cli.db import prune as command

    raise typer.Exit(command(config, dry_run=dry_run, as_json=as_json))
