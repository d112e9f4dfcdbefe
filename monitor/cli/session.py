"""What commands do around their work: configuration, logging, database, and output on the right stream."""

import json
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from monitor import logs as log
from monitor.config import Config, TargetConfig, format_duration, parse_duration
from monitor.database.engine import reading
from monitor.errors import ConfigError, MonitorError
from monitor.incidents import store as incident_store
from monitor.notifications.texts import channel_target
from monitor.runs import store as run_store

if TYPE_CHECKING:
    from monitor.app import App


_T = TypeVar("_T")


def configure_logging(level: str | None, *, exclude: Collection[str] = ()) -> None:
    """Sends logs to stderr; on a terminal, where somebody reads the command's own words, only warnings.

    Args:
        level: the least that is shown; None as above.
        exclude: events that are left out.

    Raises:
        ConfigError: when there is no such level.
    """
    level_name = level or ("warning" if sys.stderr.isatty() else "info")
    log.configure(level=level_name, exclude=exclude)


def load(path: Path | None, *, log_level: str | None = None, exclude: Collection[str] = ()) -> Config:
    """Reads the configuration and tells on stderr what was ignored. `exclude`: events that are not logged.

    Raises:
        ConfigError: with every problem found.
    """
    configure_logging(log_level, exclude=exclude)
    _raise_file_limit()
    config = Config.load(path)
    register_secrets(config)
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return config


def register_secrets(config: Config) -> None:
    """Lets the log mask every secret of a configuration."""
    for secret in config.secrets():
        log.register_secret(secret.reveal())


def _raise_file_limit() -> None:
    """As many files open at once as this user may have: the usual 1,024 are few for hundreds of targets side by side.

    A limit can't be raised where the system says so (in some sandboxes); then it stays as it is.
    """
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def open_app(config: Config) -> Iterator["App"]:
    """The live parts on an open database, which is closed at the end.

    Raises:
        StoreError: when the database can't be used.
    """
    from monitor.app import App, open_database

    engine = open_database(config)
    try:
        yield App(config=config, engine=engine)
    finally:
        engine.dispose()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of our own that is gone at the end.

    Raises:
        MonitorError: there is nowhere to make it.
    """
    try:
        temporary = tempfile.TemporaryDirectory(prefix="ingestion-monitor-")
    except OSError as error:
        raise MonitorError(
            f"no temporary folder can be made ({error.strerror}); set TMPDIR to one that this user may write to"
        ) from error
    with temporary as folder:
        yield Path(folder).resolve()


def require_known_target(app: "App", name: str | None) -> None:
    """Makes sure that a target is configured, or was once: of a slip in its name nothing would be found.

    What stands in a target's place for a channel (`channel:oncall`) is known as long as the channel is, or there are
    incidents about it.

    Raises:
        ConfigError: it is neither.
        StoreError: the database can't be read.
    """
    configured = {target.name for target in app.config.targets}
    if name is None or name in configured | {channel_target(each.name) for each in app.config.channels}:
        return
    with reading(app.engine) as conn:
        # text that can't be printed can't be stored either
        if not name.isprintable() or not _has_history(conn, name):
            raise unknown_target(app.config, name)


def _has_history(conn: Connection, name: str) -> bool:
    return bool(
        run_store.history(conn, target=name, limit=1) or incident_store.list_incidents(conn, target=name, limit=1)
    )


def require_found(found: _T | None, incident_id: int) -> _T:
    """What was found of an incident.

    Raises:
        ConfigError: there is none with that number.
    """
    if found is None:
        raise ConfigError([f"there is no incident {incident_id}; `ingestion-monitor incidents list --all` has all"])
    return found


def unknown_target(config: Config, *names: str) -> ConfigError:
    """What to raise when an option names targets that are not configured."""
    unknown, known = ", ".join(map(ascii, names)), ", ".join(target.name for target in config.targets)
    return ConfigError([f"--target: there is no target {unknown}; there are {known}"])


def select_targets(config: Config, names: Sequence[str]) -> list[TargetConfig]:
    """The targets of those names, each once; all of them without any.

    Raises:
        ConfigError: one is not configured.
    """
    by_name = {target.name: target for target in config.targets}
    if unknown := [name for name in names if name not in by_name]:
        raise unknown_target(config, *unknown)
    return [by_name[name] for name in dict.fromkeys(names)] or list(config.targets)


def parse_duration_option(
    option: str, text: str, *, minimum: timedelta, maximum: timedelta, examples: str
) -> timedelta:
    """Reads an option that is a duration.

    Args:
        option: its name, such as `--deadline`.
        text: what was given.
        minimum: the least that is allowed.
        maximum: the most.
        examples: examples, for the sentence.

    Raises:
        ConfigError: it is none, or out of bounds.
    """
    try:
        read = parse_duration(text)
    except ValueError:
        read = None
    if read is None or not minimum <= read <= maximum:
        bounds = f"{format_duration(minimum)} to {format_duration(maximum)}"
        raise ConfigError([f"{option}: {text!a} is no duration from {bounds}; write it as in {examples}"])
    return read


def can_print(text: str) -> bool:
    """Whether stdout's encoding has all of these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def print_lines(text: str) -> None:
    """Prints text on stdout."""
    print(text, flush=True)


def print_json(value: Any) -> None:  # noqa: ANN401  # any JSON value
    """Prints one JSON value on stdout, indented, characters as they are."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)
