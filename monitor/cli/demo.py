"""`demo`: the whole story, in a folder that is thrown away unless it is asked for."""

import asyncio
from contextlib import nullcontext
from pathlib import Path

from monitor.cli.session import configure_logging, print_lines, scratch
from monitor.demo import Demo
from monitor.errors import ConfigError

__all__ = ["demo"]


def demo(keep: Path | None) -> int:
    """Plays the demo.

    Raises:
        ConfigError: the folder to keep it in can't be made, or is not empty.
        MonitorError: a step failed.
    """
    configure_logging("error")
    with nullcontext(_made(keep)) if keep else scratch() as folder:
        asyncio.run(Demo(folder, lambda text: print_lines(f"{text}\n")).play())
    print_lines(
        "That was the main job. For real: `ingestion-monitor init` writes a monitor.toml, you fill in three lines, "
        "and\n`ingestion-monitor doctor` says what is missing (docs/quickstart.md)."
    )
    return 0


def _made(keep: Path) -> Path:
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except OSError as error:
        raise ConfigError([f"--keep: {keep} can't be used ({error.strerror}); name another folder"]) from None
    if not empty:
        raise ConfigError([f"--keep: {keep} is not empty; name a new folder"])
    return keep.resolve()
