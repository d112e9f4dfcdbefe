"""What commands share: configuration, logging, database, options as values, and output on the right stream.

Slow imports are made where they are used, so that `--help` is fast. `load` comes before other imports: it imports
structlog by way of `monitor.logs`, which keeps it from importing rich.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from monitor.errors import ConfigError, MonitorError

if TYPE_CHECKING:
    from monitor.app import App
    from monitor.config import Config, TargetConfig

_T = TypeVar("_T")
_USUAL_WIDTH = 80


def configure_logging(level: str | None, *, exclude: Collection[str] = ()) -> None:
    """Sends logs to stderr, except the events in `exclude`. Raises ConfigError if there is no such level.

    `level` is the lowest that is shown; None: info, and on a terminal warning.
    """
    from monitor import logs

    logs.configure(level=level or ("warning" if sys.stderr.isatty() else "info"), exclude=exclude)


def load(
    path: Path | None, *, log_level: str | None = None, exclude: Collection[str] = (), warnings: bool = True
) -> "Config":
    """Reads the configuration and prints its `warnings` on stderr. Raises ConfigError with every problem found.

    `exclude`: events that are not logged.
    """
    configure_logging(log_level, exclude=exclude)
    _raise_file_limit()
    from monitor.config import load_config

    config = load_config(path)
    register_secrets(config)
    for warning in config.warnings if warnings else ():
        print(f"warning: {warning}", file=sys.stderr)
    return config


def config_reader(path: Path | None) -> "Callable[[], Config]":
    """What reads the configuration again, for a process that goes on; it raises ConfigError with every problem."""

    def read() -> "Config":
        from monitor.app import validate_providers
        from monitor.config import load_config

        changed = load_config(path)
        register_secrets(changed)
        validate_providers(changed.targets)
        return changed

    return read


def register_secrets(config: "Config") -> None:
    """Masks every secret of a configuration in the log, also as runs will send it.

    A secret that is new to a run costs a new pattern of all of them.
    """
    from monitor import logs
    from monitor.config import PasswordConfig

    for secret in config.secrets():
        logs.register_secret(secret.reveal())
    for auth in (target.auth for target in config.targets):
        if isinstance(auth, PasswordConfig):
            from monitor.client.auth import basic_credential

            logs.register_secret(basic_credential(auth.user, auth.password.reveal()))


def _raise_file_limit() -> None:
    """Raises the limit of open files, where allowed: the usual 1,024 are few for hundreds of targets."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def open_app(config: "Config") -> Iterator["App"]:
    """The live parts on an open database, closed at the end. Raises StoreError if it can't be used."""
    from monitor.app import App, open_database

    engine = open_database(config)
    try:
        yield App(config=config, engine=engine)
    finally:
        engine.dispose()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder that is deleted at the end. Raises MonitorError if it can't be made."""
    import tempfile

    try:
        temporary = tempfile.TemporaryDirectory(prefix="ingestion-monitor-")
    except OSError as error:
        raise MonitorError(
            f"no temporary folder can be made ({error.strerror}); set TMPDIR to one that this user may write to"
        ) from error
    with temporary as folder:
        yield Path(folder).resolve()


# --- what an option names ---------------------------------------------------------------------------------------------


def require_known_target(app: "App", name: str | None) -> None:
    """Raises ConfigError for a target neither configured nor in the history: a typo must not look like "no data".

    `channel:oncall` is known while the channel is configured, or there are incidents about it.
    Raises StoreError if the database can't be read.
    """
    from monitor.database.engine import reading
    from monitor.reports.names import is_known_target

    if name is None:
        return
    with reading(app.engine) as conn:
        known = is_known_target(conn, app.config, name)
    if not known:
        raise unknown_target(app.config, name)


def require_found(found: _T | None, incident_id: int) -> _T:
    """Returns what was found of an incident. Raises ConfigError if that is None."""
    if found is None:
        raise ConfigError([f"there is no incident {incident_id}; `ingestion-monitor incidents list --all` has all"])
    return found


def unknown_target(config: "Config", *names: str) -> ConfigError:
    """The error for an option that names targets that are not configured."""
    from monitor.reports.names import no_such_target

    return ConfigError([f"--target: {no_such_target(config, *names)}"])


def select_targets(config: "Config", names: Sequence[str]) -> "list[TargetConfig]":
    """The targets of those names, each once; all without names. Raises ConfigError if one is not configured."""
    by_name = {target.name: target for target in config.targets}
    if unknown := [name for name in names if name not in by_name]:
        raise unknown_target(config, *unknown)
    return [by_name[name] for name in dict.fromkeys(names)] or list(config.targets)


def parse_duration_option(
    option: str, text: str, *, minimum: timedelta, maximum: timedelta, examples: str
) -> timedelta:
    """Reads a duration. Raises ConfigError, with `option` and `examples`, if it is invalid or out of bounds."""
    from monitor.model.durations import bounded_duration

    try:
        return bounded_duration(text, minimum=minimum, maximum=maximum, examples=examples)
    except ValueError as error:
        raise ConfigError([f"{option}: {error}"]) from None


def parse_time(option: str, text: str) -> tuple[datetime, bool]:
    """Reads an ISO 8601 time, and whether UTC had to be assumed. Raises ConfigError if it is no time."""
    try:
        read = datetime.fromisoformat(text.strip())
        return (read.replace(tzinfo=UTC), True) if read.tzinfo is None else (read.astimezone(UTC), False)
    except (ValueError, OverflowError):
        examples = "2026-03-01T06:00 (taken as UTC) or 2026-03-01T06:00+01:00"
        raise ConfigError([f"{option}: {text!a} is no time; write it as in {examples}"]) from None


def os_user() -> str:
    """The name of the user that runs this process; in a container its number, if it has no name."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return f"uid {os.getuid()}"


def author_name(option: str, value: str | None) -> str:
    """The name given, else the user's. Raises ConfigError if the name is blank."""
    from monitor.database.text import to_single_line
    from monitor.incidents.silence_store import MAX_AUTHOR_LENGTH

    name = to_single_line(os_user() if value is None else value, MAX_AUTHOR_LENGTH)
    if not name:
        raise ConfigError([f"{option}: give a name, or leave the option out to use this system's user"])
    return name


def clean_comment(value: str | None) -> str:
    """A comment as one printable line; empty without one."""
    from monitor.database.text import to_single_line
    from monitor.incidents.silence_store import MAX_COMMENT_LENGTH

    return to_single_line(value or "", MAX_COMMENT_LENGTH)


# --- output -----------------------------------------------------------------------------------------------------------


def can_print(text: str) -> bool:
    """Whether stdout's encoding has all of these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal_width() -> int | None:
    """The width of the terminal that stdout is; None if it is none: then nothing is cut."""
    if not sys.stdout.isatty():
        return None
    with suppress(OSError, ValueError):
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
        if columns > 0:
            return columns
    given = os.environ.get("COLUMNS", "")  # some terminals do not know their own width
    return int(given) if given.isdecimal() and int(given) > 0 else _USUAL_WIDTH


def print_lines(text: str) -> None:
    """Prints text on stdout. An id or a group must not reorder what a terminal shows."""
    from monitor.database.text import escape_bidirectional

    print(escape_bidirectional(text), flush=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Prints one JSON object on stdout, indented, characters as they are."""
    import json

    # an escape in place of such a character is the same JSON
    print_lines(json.dumps(value, indent=2, ensure_ascii=False))
