"""Who asks, and what people type beside ids: names, comments, moments. It reads options and prints nothing."""

import getpass
import os
from datetime import UTC, datetime

from monitor.database.text import cleaned
from monitor.errors import ConfigError
from monitor.incidents.silence_store import MAX_COMMENT_LENGTH, MAX_AUTHOR_LENGTH


def os_user() -> str:
    """Who runs this process, by name; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"uid {os.getuid()}"


def name_of(option: str, given: str | None) -> str:
    """Whose word it is: the name given, else the user's.

    Raises:
        ConfigError: the name is blank.
    """
    name = cleaned(os_user() if given is None else given, MAX_AUTHOR_LENGTH)
    if not name:
        raise ConfigError([f"{option}: give a name, or leave the option out to use this system's user"])
    return name


def comment_of(given: str | None) -> str:
    """A comment as one printable line; empty without one."""
    return cleaned(given or "", MAX_COMMENT_LENGTH)


def moment_of(option: str, text: str) -> tuple[datetime, bool]:
    """Reads a moment in ISO 8601, and whether UTC had to be assumed.

    Raises:
        ConfigError: it is none.
    """
    try:
        read = datetime.fromisoformat(text.strip())
        return (read.replace(tzinfo=UTC), True) if read.tzinfo is None else (read.astimezone(UTC), False)
    except (ValueError, OverflowError):
        such_as = "2026-03-01T06:00 (taken as UTC) or 2026-03-01T06:00+01:00"
        raise ConfigError([f"{option}: {text!a} is no moment; write it as in {such_as}"]) from None
