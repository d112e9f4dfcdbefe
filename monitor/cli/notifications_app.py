"""The commands `notifications …`: names, options and help. Each hands over to the module that does it."""

from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath, LogLevel

notifications_app = typer.Typer(
    help="Messages to people: what went where, what waits, what was given up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ChannelName = Annotated[str | None, typer.Option("--channel", help="Only this channel.", show_default="all channels")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many, newest first.")]


@notifications_app.command("list")
def notifications_list(
    config: ConfigPath = None,
    channel: ChannelName = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Delivered and superseded ones too.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List messages that were not delivered, and the channels that keep them back; or all messages.

    Example: ingestion-monitor notifications list --all --channel oncall
    """
    from monitor.cli.notifications import listing as command

    command(config, channel, limit, show_all=show_all, as_json=as_json)


@notifications_app.command("dead")
def notifications_dead(
    config: ConfigPath = None, channel: ChannelName = None, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """List dead letters: messages that were refused, or could not be delivered for a day.

    Example: ingestion-monitor notifications dead --json
    """
    from monitor.cli.notifications import dead as command

    command(config, channel, limit, as_json=as_json)


@notifications_app.command("retry")
def notifications_retry(
    ids: Annotated[
        list[int] | None, typer.Argument(min=1, max=2**63 - 1, help="Their numbers; without any: all that wait.")
    ] = None,
    config: ConfigPath = None,
    channel: ChannelName = None,
    with_dead: Annotated[bool, typer.Option("--dead", help="Dead letters too, where no numbers are given.")] = False,
    log_level: LogLevel = None,
) -> None:
    """Try undelivered messages now, on suspended channels too; dead letters by number, or with --dead.

    Exit code: 0, or 4 when no channel could be reached.

    Example: ingestion-monitor notifications retry --channel oncall --dead
    """
    from monitor.cli.notifications import retry as command

    raise typer.Exit(command(config, ids or [], channel, with_dead=with_dead, log_level=log_level))
