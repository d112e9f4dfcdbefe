"""`notifications …`: lists messages, and makes undelivered ones due at once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from monitor.app import App, utcnow
from monitor.cli.notify import UNREACHABLE, delivery_line
from monitor.cli.session import load, open_app, print_json, print_lines
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError
from monitor.notifications import channel_state, outbox
from monitor.reports import notification_queries
from monitor.reports.notifications import channel_lines, notification_json, notifications_text

_UNDELIVERED = ("due", "dead")
_ALL = ("due", "sent", "superseded", "dead")


def listing(path: Path | None, channel: str | None, limit: int, *, show_all: bool, as_json: bool) -> None:
    """Prints notifications, newest first, and which channels fail.

    Raises:
        ConfigError: there is no such channel.
        StoreError: the database can't be used.
    """
    _show(path, channel, limit, statuses=_ALL if show_all else _UNDELIVERED, as_json=as_json)


def dead(path: Path | None, channel: str | None, limit: int, *, as_json: bool) -> None:
    """Prints dead letters, newest first.

    Raises:
        ConfigError: there is no such channel.
        StoreError: the database can't be used.
    """
    _show(path, channel, limit, statuses=("dead",), as_json=as_json)


def retry(path: Path | None, ids: Sequence[int], channel: str | None, *, with_dead: bool, log_level: str | None) -> int:
    """Makes undelivered notifications due, opens their channels, and delivers; gives back the exit code.

    Raises:
        ConfigError: there is no such channel, or one of the numbers is none of an undelivered notification.
        StoreError: the database can't be used.
    """
    with open_app(load(path, log_level=log_level)) as app:
        _require_known_channel(app, channel)
        _make_due(app, ids, channel, with_dead=with_dead)
        report = asyncio.run(app.sender().deliver())
    print_lines(delivery_line(report) or "Nothing waits to be delivered.")
    return UNREACHABLE if report.unreachable else 0


def _make_due(app: App, ids: Sequence[int], channel: str | None, *, with_dead: bool) -> None:
    with writing(app.engine) as conn:
        # channels before their notifications, as whoever marks a message locks them
        every = {channel} if channel else set(channel_state.load_all(conn))
        channel_state.reset(conn, outbox.channels_of(conn, ids) if ids else every)
        due = outbox.retry(conn, ids=ids or None, channel=channel, dead=with_dead, now=utcnow())
        if missing := sorted(set(ids) - set(due)):
            numbers = ", ".join(map(str, missing))
            reason = f"there is nothing to deliver under {numbers}: it was sent, is being sent, or does not exist"
            raise ConfigError([f"{reason}; `ingestion-monitor notifications list --all` has all"])


def _show(path: Path | None, channel: str | None, limit: int, *, statuses: Sequence[str], as_json: bool) -> None:
    with open_app(load(path)) as app:
        _require_known_channel(app, channel)
        with reading(app.engine) as conn:
            found = notification_queries.listing(conn, statuses=statuses, channel=channel, limit=limit)
            states = channel_state.load_all(conn)
    if as_json:
        print_json([notification_json(notification) for notification in found])
        return
    now = utcnow()
    failing = channel_lines([state for state in states.values() if channel in {None, state.name}], now=now)
    empty_text = (
        "No dead letters." if statuses == ("dead",) else "Nothing waits to be delivered, and nothing was given up."
    )
    print_lines("\n".join([notifications_text(found, states, now=now) if found else empty_text, *failing]))


def _require_known_channel(app: App, name: str | None) -> None:
    """Makes sure that a channel is configured, or that there are messages to it.

    Raises:
        ConfigError: it is neither.
    """
    configured = [channel.name for channel in app.config.channels]
    if name is None or name in {*configured, "log"}:
        return
    with reading(app.engine) as conn:
        if not notification_queries.listing(conn, statuses=_ALL, channel=name, limit=1):
            known = ", ".join([*configured, "log"])
            raise ConfigError([f"--channel: there is no channel {name!a}; there are {known}"])
