"""`demo`: the whole story, in a folder that is thrown away unless it is asked for."""

import asyncio
import tempfile
from contextlib import nullcontext
from pathlib import Path

from monitor.cli.session import configure_logging, print_lines
from monitor.demo import Demo
from monitor.errors import ConfigError

__all__ = ["demo"]


def demo(keep: Path | None) -> int:
    """Plays the demo.

    Raises:
        ConfigError: the folder to keep it in is not empty.
        MonitorError: a step failed.
    """
    configure_logging("error")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise ConfigError([f"--keep: {keep} is not empty; name a new folder"])
    place = nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory(prefix="ingestion-monitor-demo-")
    with place as folder:
        asyncio.run(Demo(Path(folder).resolve(), lambda text: print_lines(f"{text}\n")).play())
    print_lines(
        "That was the main job. For real: write a monitor.toml with your credentials and your sync log (see README), "
        "then run `ingestion-monitor check`."
    )
    return 0
