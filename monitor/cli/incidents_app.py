"""The commands `incidents …`: names, options and help. Each hands over to the module that does it."""

from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath, TargetName

incidents_app = typer.Typer(help="Incidents: what is or was wrong.", no_args_is_help=True, rich_markup_mode=None)


@incidents_app.command("list")
def incidents_list(
    config: ConfigPath = None,
    target: TargetName = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Resolved ones too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first: the open ones, or all.

    Example: ingestion-monitor incidents list --all
    """
    from monitor.cli.incidents import listing as command

    command(config, target, limit, show_all=show_all, as_json=as_json)


IncidentNumber = Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Its number, as `incidents list` prints it.")]
IncidentNumbers = Annotated[
    list[int], typer.Argument(min=1, max=2**63 - 1, help="Their numbers, as `incidents list` prints them.")
]
By = Annotated[str | None, typer.Option("--by", help="Whose word it is.", show_default="your user")]
Comment = Annotated[str | None, typer.Option("--comment", help="What others should know.")]


@incidents_app.command("show")
def incidents_show(incident_id: IncidentNumber, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show all there is to know about one incident: evidence, items, what to check, what happened.

    Example: ingestion-monitor incidents show 3
    """
    from monitor.cli.incidents import show as command

    command(config, incident_id, as_json=as_json)


@incidents_app.command("ack")
def incidents_ack(
    incident_ids: IncidentNumbers, config: ConfigPath = None, by: By = None, comment: Comment = None
) -> None:
    """Say that you look after incidents: no reminders any more, and those who were told of them hear so.

    Example: ingestion-monitor incidents ack 3 4 --comment "on it"
    """
    from monitor.cli.incidents import ack as command

    command(config, incident_ids, by, comment)


@incidents_app.command("resolve")
def incidents_resolve(
    incident_ids: IncidentNumbers, config: ConfigPath = None, by: By = None, comment: Comment = None
) -> None:
    """Say that incidents are over; evidence that goes on reopens one, or opens another.

    Example: ingestion-monitor incidents resolve 3 --comment "the key was rotated on purpose"
    """
    from monitor.cli.incidents import resolve as command

    command(config, incident_ids, by, comment)


@incidents_app.command("explain")
def incidents_explain(incident_id: IncidentNumber, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Tell, run by run, why an incident opened and ended, and why people were told or not.

    Example: ingestion-monitor incidents explain 3
    """
    from monitor.cli.incidents import explain as command

    command(config, incident_id, as_json=as_json)
