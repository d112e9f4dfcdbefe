"""The options that several commands share. Only typer is imported, so that `--help` stays fast."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.completion import one_of, target_names

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The TOML file. Default: MONITOR_CONFIG, else ./monitor.toml.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
TargetName = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="Only this target.",
        show_default="all targets",
        autocompletion=target_names,
    ),
]
TargetNames = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="TARGET",
        help="Only this target; may be repeated.",
        show_default="all",
        autocompletion=target_names,
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        help="debug, info, warning or error.",
        autocompletion=one_of("debug", "info", "warning", "error"),
        show_default="info; less on a terminal, except for the daemon",
    ),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many, newest first.")]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Your name.", show_default="your user")]


def group(text: str) -> typer.Typer:
    """A group of commands with this help text."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
