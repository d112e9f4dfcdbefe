"""Another configuration for a daemon that runs: read anew, tried, and compared with the one in force.

It puts nothing in force. What can't be is logged as one event, with every reason.
"""

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

_STILL_IN_FORCE = "the one that was in force before"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration that can come into force."""

    config: Config
    engine: Engine | None
    """An engine on its database; None when it is the one in use, or none is open yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetChanges:
    """The targets that are not what they were, by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    rescheduled: tuple[str, ...]
    """Watched before and after, at other times."""


class ConfigReloader:
    """Reads the configuration anew.

    Args:
        state: says what is in force, and is told what was refused.
        read_config: reads it; raises `ConfigError` for one that can't be used. None: the one in force is all there is.
    """

    def __init__(self, state: DaemonState, read_config: Callable[[], Config] | None) -> None:
        self._state, self._read_config = state, read_config

    async def read(self) -> LoadedConfig | None:
        """What is written now, with an open database where that is another; None when it can't come into force."""
        log = structlog.get_logger()
        try:
            return await asyncio.to_thread(self._read)
        except MonitorError as error:
            problems = error.problems if isinstance(error, ConfigError) else (str(error),)
            self._state.reload_error = "; ".join(problems)
            log.error("configuration_refused", problems=problems, in_force=_STILL_IN_FORCE)  # noqa: TRY400  # no defect
        except Exception as error:  # whatever it is, the daemon goes on as before
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
    """When each target's runs are due, as the daemon keeps them."""
    return {each.name: config.schedule_for(each).due_times(each.name, daemon_managed=True) for each in config.targets}


def target_changes(old: Config, new: Config) -> TargetChanges:
    """What has to be begun and ended when one configuration takes the place of another."""
    before, after = due_times_of(old), due_times_of(new)
    return TargetChanges(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        rescheduled=tuple(name for name in after if name in before and after[name] != before[name]),
    )


def log_reloaded(changes: TargetChanges, loaded: LoadedConfig) -> None:
    """Logs that a configuration came into force."""
    structlog.get_logger().info(
        "configuration_reloaded",
        added=changes.added,
        removed=changes.removed,
        rescheduled=changes.rescheduled,
        database_changed=loaded.engine is not None,
        ignored=loaded.config.warnings,
    )
