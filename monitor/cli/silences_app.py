"""The commands `silences …`: names, options and help. Each hands over to the module that does it."""

from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath

silences_app = typer.Typer(
    help="Silences: no message about what they match, for a while; nothing is forgotten.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@silences_app.command("add")
def silences_add(
    config: ConfigPath = None,
    incident: Annotated[
        int | None,
        typer.Option("--incident", "-i", min=1, max=2**63 - 1, help="Match this incident's cause, target and group."),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            "--match",
            "-m",
            help="ATTRIBUTE=PATTERN, with * and ?; attributes are team, cause, target, group, severity, environment. "
            "May be repeated: all attributes must match, each by any of its patterns.",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[str | None, typer.Option("--for", help="How long, e.g. 4h.", show_default=False)] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="When it ends, e.g. 2026-03-01T06:00 (UTC).", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="When it begins, e.g. 2026-03-01T22:00 (UTC).", show_default="now")
    ] = None,
    comment: Annotated[str | None, typer.Option("--comment", help="Why, for whoever wonders.")] = None,
    author: Annotated[str | None, typer.Option("--author", help="Whose it is.", show_default="your user")] = None,
    as_json: AsJson = False,
) -> None:
    """Keep messages about matching incidents back; what is open at the end is told then.

    Example: ingestion-monitor silences add --incident 7 --for 4h --comment "the provider is on it"
    """
    from monitor.cli.silences import SilenceOptions
    from monitor.cli.silences import add as command

    options = SilenceOptions(
        incident=incident,
        match=tuple(match or ()),
        duration=duration,
        until=until,
        start=start,
        comment=comment,
        author=author,
    )
    command(config, options, as_json=as_json)


@silences_app.command("list")
def silences_list(
    config: ConfigPath = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Those that are over, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List silences, newest first: those in force and to come, or all.

    Example: ingestion-monitor silences list
    """
    from monitor.cli.silences import listing as command

    command(config, show_all=show_all, as_json=as_json)


@silences_app.command("expire")
def silences_expire(
    silence_id: Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Its number, as `silences list` prints it.")],
    config: ConfigPath = None,
    by: Annotated[str | None, typer.Option("--by", help="Who ends it.", show_default="your user")] = None,
) -> None:
    """End a silence now: what it kept back is told with the next delivery.

    Example: ingestion-monitor silences expire 3
    """
    from monitor.cli.silences import expire as command

    command(config, silence_id, by)
