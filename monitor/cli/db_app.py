"""The commands `db …`: names, options and help. Each hands over to the module that does it, imported only then."""

import typer

from monitor.cli.options import ConfigPath

__all__ = ["db_app"]

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
