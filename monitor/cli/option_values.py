"""Who asks, and what people type beside ids: names, comments, moments. It reads options and prints nothing."""

import getpass
import os
from datetime import UTC, datetime

from monitor.database.text import to_single_line
from monitor.errors import ConfigError
from monitor.incidents.silence_store import MAX_AUTHOR_LENGTH, MAX_COMMENT_LENGTH


def os_user() -> str:
    """Who runs this process, by name; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"uid {os.getuid()}"


def author_name(option: str, value: str | None) -> str:
    """Whose word it is: the name given, else the user's.

    Raises:
        ConfigError: the name is blank.
    """
    name = to_single_line(os_user() if value is None else value, MAX_AUTHOR_LENGTH)
    if not name:
        raise ConfigError([f"{option}: give a name, or leave the option out to use this system's user"])
    return name


def clean_comment(value: str | None) -> str:
    """A comment as one printable line; empty without one."""
    return to_single_line(value or "", MAX_COMMENT_LENGTH)


def parse_time(option: str, text: str) -> tuple[datetime, bool]:
    """Reads a moment in ISO 8601, and whether UTC had to be assumed.

    Raises:
        ConfigError: it is none.
    """
    try:
        read = datetime.fromisoformat(text.strip())
        return (read.replace(tzinfo=UTC), True) if read.tzinfo is None else (read.astimezone(UTC), False)
    except (ValueError, OverflowError):
        examples = "2026-03-01T06:00 (taken as UTC) or 2026-03-01T06:00+01:00"
        raise ConfigError([f"{option}: {text!a} is no moment; write it as in {examples}"]) from None
