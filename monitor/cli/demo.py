"""`demo`: plays the main job against the built-in sandbox, in a folder that is deleted unless it is to be kept."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.session import configure_logging, print_lines, temporary_folder
from monitor.errors import ConfigError


def demo(
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep configuration, sync log and database in this folder.")
    ] = None,
) -> None:
    """Show the main job against the built-in sandbox. There is nothing to set up.

    Example: ingestion-monitor demo
    """
    from contextlib import nullcontext

    from monitor.cli import event_loop
    from monitor.cli.demo_story import Demo

    configure_logging("error")
    with nullcontext(_create_folder(keep)) if keep else temporary_folder() as folder:
        event_loop.run(Demo(folder, lambda text: print_lines(f"{text}\n")).run())
    print_lines(
        "That was the main job. For real: `ingestion-monitor init` writes a monitor.toml, you fill in three lines, "
        "and\n`ingestion-monitor doctor` says what is missing (`ingestion-monitor docs quickstart`)."
    )


def _create_folder(keep: Path) -> Path:
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except OSError as error:
        raise ConfigError([f"--keep: {keep} can't be used ({error.strerror}); name another folder"]) from None
    if not empty:
        raise ConfigError([f"--keep: {keep} is not empty; name a new folder"])
    return keep.resolve()
