"""Reads a changed configuration for a running daemon, and compares it with the current one. It applies nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from monitor.app import open_database
from monitor.config import Config
from monitor.daemon.database import is_configured_database
from monitor.errors import ConfigError, MonitorError
from monitor.model.schedule import DueTimes
from monitor.web.state import DaemonState

_STILL_IN_FORCE = "the previous configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A valid configuration."""

    config: Config
    engine: Engine | None
    """Opened on its database; None if the database is unchanged, or none is open yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetChanges:
    """Names of changed targets."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    rescheduled: tuple[str, ...]
    """In both configurations, with different due times."""


class ConfigReloader:
    """Reads the configuration again with `read_config`, which raises `ConfigError` if it is invalid.

    Without `read_config`, the current configuration is kept.
    """

    def __init__(self, state: DaemonState, read_config: Callable[[], Config] | None) -> None:
        self._state, self._read_config = state, read_config

    async def read(self) -> LoadedConfig | None:
        """The new configuration; None if it is refused. The reason is in the state then."""
        log = structlog.get_logger()
        try:
            return await asyncio.to_thread(self._read)
        except MonitorError as error:
            problems = error.problems if isinstance(error, ConfigError) else (str(error),)
            self._state.reload_error = "; ".join(problems)
            log.error("configuration_refused", problems=problems, in_force=_STILL_IN_FORCE)  # noqa: TRY400  # no defect
        except Exception as error:  # the daemon keeps the previous configuration
            self._state.reload_error = f"it could not be read ({type(error).__name__})"
            log.exception("configuration_refused", in_force=_STILL_IN_FORCE)
        return None

    def _read(self) -> LoadedConfig:
        config = self._state.config if self._read_config is None else self._read_config()
        engine = self._state.engine
        if engine is None or is_configured_database(engine, config):
            return LoadedConfig(config=config, engine=None)
        return LoadedConfig(config=config, engine=open_database(config))


def due_times_of(config: Config) -> dict[str, DueTimes]:
    """The due times of each target by name, with the daemon's jitter."""
    return {each.name: config.schedule_for(each).due_times(each.name, daemon_managed=True) for each in config.targets}


def target_changes(old: Config, new: Config) -> TargetChanges:
    """Compares the targets and their schedules."""
    before, after = due_times_of(old), due_times_of(new)
    return TargetChanges(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        rescheduled=tuple(name for name in after if name in before and after[name] != before[name]),
    )
