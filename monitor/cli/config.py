"""`config …`: reads the configuration and says what it found."""

from pathlib import Path

from monitor.cli.session import load, print_lines

__all__ = ["check"]


def check(path: Path | None) -> None:
    """Prints what the configuration describes.

    Raises:
        ConfigError: with every problem found.
    """
    config = load(path)
    source = config.source or "the environment"
    targets = ", ".join(target.name for target in config.targets)
    channels = ", ".join(channel.name for channel in config.channels) or "none: messages go to the log"
    print_lines(f"{source}: no problems found\n  targets:  {targets}\n  channels: {channels}")
