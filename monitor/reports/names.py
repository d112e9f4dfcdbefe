"""Whether what a user named exists: targets, channels. A mistyped name must not look like "no data"."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

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


_MAX_NAMED, _MAX_COMPARED = 5, 100
"""Names in one sentence; characters of a name that are compared."""


def no_such_target(config: Config, *names: str) -> str:
    """A sentence about targets that do not exist: `there is no target 'x'; choose from gloo-prod`.

    Of many targets it names a few, those most like the first name before others.
    """
    known = [target.name for target in config.targets]
    near = known if len(known) <= _MAX_NAMED else [*_alike(names[0], known), *known]
    unknown, offered = (_few([*map(ascii, names)], "and {} more"), _few([*dict.fromkeys(near)], "or {} others"))
    return f"there is no target {unknown}; choose from {offered}"


def _alike(name: str, known: Sequence[str]) -> Iterator[str]:
    folded = {each.casefold(): each for each in known}
    wanted = name.casefold()[:_MAX_COMPARED]
    return (folded[each] for each in get_close_matches(wanted, folded, n=_MAX_NAMED, cutoff=0.5))


def _few(names: Sequence[str], rest: str) -> str:
    text = ", ".join(names[:_MAX_NAMED])
    return f"{text} {rest.format(len(names) - _MAX_NAMED)}" if len(names) > _MAX_NAMED else text


def unknown_target_sentence(config: Config, name: str) -> str:
    """The same as a whole sentence."""
    sentence = no_such_target(config, name)
    return f"{sentence[0].upper()}{sentence[1:]}."
