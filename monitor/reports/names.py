"""Whether what a user named exists: targets, channels. A mistyped name must not look like "no data"."""

from sqlalchemy import Connection

from monitor.config import Config
from monitor.incidents import store as incident_store
from monitor.notifications.routing import LOG_CHANNEL
from monitor.notifications.texts import channel_target
from monitor.reports import notification_queries
from monitor.runs import store as run_store


def target_names(config: Config) -> list[str]:
    """What incidents can be about: the configured targets, then the channels as `channel:NAME`."""
    return [target.name for target in config.targets] + [channel_target(each.name) for each in config.channels]


def channel_names(config: Config) -> list[str]:
    """The configured channels, and the log."""
    return [*(channel.name for channel in config.channels), LOG_CHANNEL]


def is_known_target(conn: Connection, config: Config, name: str) -> bool:
    """Whether a target, or `channel:NAME`, is configured, or in the history."""
    if name in target_names(config):
        return True
    if not name.isprintable():  # such text can't be stored either
        return False
    return bool(
        run_store.history(conn, target=name, limit=1) or incident_store.list_incidents(conn, target=name, limit=1)
    )


def is_known_channel(conn: Connection, config: Config, name: str) -> bool:
    """Whether a channel is configured, or has notifications."""
    if name in channel_names(config):
        return True
    return name.isprintable() and bool(notification_queries.listing(conn, statuses=None, channel=name, limit=1))


def no_such_target(config: Config, *names: str) -> str:
    """A sentence about targets that do not exist: `there is no target 'x'; choose from gloo-prod`."""
    unknown, known = ", ".join(map(ascii, names)), ", ".join(target.name for target in config.targets)
    return f"there is no target {unknown}; choose from {known}"


def unknown_target_sentence(config: Config, name: str) -> str:
    """The same as a whole sentence."""
    sentence = no_such_target(config, name)
    return f"{sentence[0].upper()}{sentence[1:]}."
