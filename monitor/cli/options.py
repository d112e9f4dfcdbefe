"""The options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="The TOML file. Default: MONITOR_CONFIG, else ./monitor.toml.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
TargetName = Annotated[str | None, typer.Option("--target", "-t", help="Only this target.", show_default="all targets")]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        help="debug, info, warning or error.",
        show_default="info; on a terminal less, but for the daemon",
    ),
]
