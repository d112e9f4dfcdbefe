"""The commands `config …`: names, options and help. Each hands over to the module that does it, imported only then."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath

config_app = typer.Typer(help="The configuration.", no_args_is_help=True, rich_markup_mode=None)


@config_app.command("check")
def config_check(config: ConfigPath = None) -> None:
    """Read the configuration and list every problem, each with its remedy. Nothing is contacted.

    Example: ingestion-monitor config check --config monitor.toml
    """
    from monitor.cli.config import check as command

    command(config)


@config_app.command("show")
def config_show(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Print every setting in force, secrets masked, with where each came from.

    Example: ingestion-monitor config show
    """
    from monitor.cli.config import show as command

    command(config, as_json)


@config_app.command("schema")
def config_schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to this file instead of stdout.")
    ] = None,
) -> None:
    """Print the JSON Schema of monitor.toml, for editors that check and complete while you type.

    Example: ingestion-monitor config schema --output monitor.schema.json
    """
    from monitor.cli.config import schema as command

    command(output)
