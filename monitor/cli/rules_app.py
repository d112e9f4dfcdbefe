"""The commands `rules …`: names, options and help. Each hands over to the module that does it, imported only then."""

from typing import Annotated

import typer

from monitor.cli.options import AsJson, ConfigPath, TargetName

rules_app = typer.Typer(
    help="The rules of incidents: when one opens, whose it is, and who is told.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@rules_app.command("list")
def rules_list(config: ConfigPath = None, target: TargetName = None, as_json: AsJson = False) -> None:
    """List the rule in force for each cause, for a target on its own where it differs, and where it came from.

    Example: ingestion-monitor rules list --target gloo-prod
    """
    from monitor.cli.rules import listing as command

    command(config, target, as_json=as_json)


@rules_app.command("test")
def rules_test(
    config: ConfigPath = None,
    status: Annotated[int | None, typer.Option("--status", help="Of an answer of the API, such as 401.")] = None,
    code: Annotated[
        str | None, typer.Option("--code", help="The error's code in it, such as SPENDING_LIMIT_EXCEEDED.")
    ] = None,
    cause: Annotated[
        str | None, typer.Option("--cause", help="Instead of an answer: a cause, such as items_stuck.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", "-t", help="On which target; channel:NAME for a channel.", show_default="the only one"
        ),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="The group of the items.", show_default="none")] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", help="Where it happens.", show_default="as configured")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be done about an answer: cause, rule, runs until an incident opens, routes, and who is told.

    It asks no API and sends nothing. Silences in force are told, as far as the database can be read.

    Example: ingestion-monitor rules test --status 401 --target gloo-prod
    """
    from monitor.cli.rules import RuleTestOptions
    from monitor.cli.rules import simulate_rule as command

    query = RuleTestOptions(
        status=status, code=code, cause=cause, target=target, group=group, environment=environment, as_json=as_json
    )
    command(config, query)
