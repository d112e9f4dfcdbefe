"""`notifications …`: lists messages, and makes undelivered ones due at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.completion import channel_names
from monitor.cli.exit_codes import UNREACHABLE
from monitor.cli.options import AsJson, ConfigPath, Limit, LogLevel, group
from monitor.cli.session import load, open_app, print_json, print_lines, terminal_width
from monitor.cli.signals import delivery_json, delivery_line
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from monitor.app import App

app = group("Notifications: sent, waiting, and given up.")

ChannelName = Annotated[
    str | None,
    typer.Option(
        "--channel",
        metavar="CHANNEL",
        help="Only this channel.",
        show_default="all channels",
        autocompletion=channel_names,
    ),
]

_UNDELIVERED = ("due", "dead")


@app.command("list")
def listing(
    config: ConfigPath = None,
    channel: ChannelName = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Delivered and superseded ones too.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List messages that were not delivered, and the channels that fail; or all messages.

    Example: ingestion-monitor notifications list --all --channel oncall
    """
    _print_messages(config, channel, limit, statuses=None if show_all else _UNDELIVERED, as_json=as_json)


@app.command()
def dead(config: ConfigPath = None, channel: ChannelName = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List dead letters: messages that were refused, or could not be delivered for a day.

    Example: ingestion-monitor notifications dead --json
    """
    _print_messages(config, channel, limit, statuses=("dead",), as_json=as_json)


@app.command()
def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(min=1, max=2**63 - 1, help="Their numbers; without any: all that wait.")
    ] = None,
    config: ConfigPath = None,
    channel: ChannelName = None,
    with_dead: Annotated[bool, typer.Option("--dead", help="Dead letters too, if no numbers are given.")] = False,
    as_json: AsJson = False,
    log_level: LogLevel = None,
) -> None:
    """Send undelivered messages now, also to suspended channels; dead letters by number, or with --dead.

    Exit code: 0, or 4 if no channel could be reached.

    Example: ingestion-monitor notifications retry --channel oncall --dead
    """
    loaded = load(config, log_level=log_level)
    from monitor.cli import event_loop

    with open_app(loaded) as app:
        _require_known_channel(app, channel)
        _make_due(app, ids or (), channel, with_dead=with_dead)
        report = event_loop.run(app.sender().deliver())
    if as_json:
        print_json(delivery_json(report))
    else:
        print_lines(delivery_line(report) or "No message waits to be delivered.")
    raise typer.Exit(UNREACHABLE if report.unreachable else 0)


def _make_due(app: "App", ids: Sequence[int], channel: str | None, *, with_dead: bool) -> None:
    from monitor.app import utcnow
    from monitor.database.engine import writing
    from monitor.notifications import channel_state, outbox

    with writing(app.engine) as conn:
        # channels before their notifications: the sender locks them in this order
        every = {channel} if channel else set(channel_state.load_all(conn))
        channel_state.reset(conn, outbox.channels_of(conn, ids) if ids else every)
        due = outbox.retry(conn, ids=ids or None, channel=channel, dead=with_dead, now=utcnow())
        if missing := sorted(set(ids) - set(due)):
            numbers = ", ".join(map(str, missing))
            reason = f"there is nothing to deliver under {numbers}: it was sent, is being sent, or does not exist"
            raise ConfigError([f"{reason}; `ingestion-monitor notifications list --all` has all"])


def _print_messages(
    path: Path | None, channel: str | None, limit: int, *, statuses: Sequence[str] | None, as_json: bool
) -> None:
    loaded = load(path)
    from monitor.app import utcnow
    from monitor.database.engine import reading
    from monitor.reports.notifications import channel_lines, notifications_json, notifications_text, notifications_view

    with open_app(loaded) as app:
        _require_known_channel(app, channel)
        with reading(app.engine) as conn:
            view = notifications_view(conn, statuses=statuses, channel=channel, limit=limit, now=utcnow())
    if as_json:
        print_json(notifications_json(view))
        return
    states = [state for state in view.channel_states.values() if channel in {None, state.name}]
    failing = channel_lines(states, now=view.now)
    empty = "No dead letters." if statuses == ("dead",) else "No message waits to be delivered, and none was given up."
    table = notifications_text(view, width=terminal_width()) if view.notifications else empty
    print_lines("\n".join([table, *failing]))


def _require_known_channel(app: "App", name: str | None) -> None:
    """Refuses the name of a channel that is not configured and has no messages."""
    from monitor.database.engine import reading
    from monitor.reports.names import channel_names, is_known_channel

    if name is None:
        return
    with reading(app.engine) as conn:
        if not is_known_channel(conn, app.config, name):
            choices = ", ".join(channel_names(app.config))
            raise ConfigError([f"--channel: there is no channel {name!a}; choose from {choices}"])
