"""`rules …`: lists the rules in force, and simulates what an answer of the API would lead to. It sends no request."""

from typing import Annotated

import typer

from monitor.cli.completion import cause_names, target_names
from monitor.cli.options import AsJson, ConfigPath, TargetName, group
from monitor.cli.session import load, print_json, print_lines, terminal_width

app = group("The rules of incidents: when they open and whom they notify.")


@app.command("list")
def listing(config: ConfigPath = None, target: TargetName = None, as_json: AsJson = False) -> None:
    """List the rule of each cause, of single targets where they differ, and where it was set.

    Example: ingestion-monitor rules list --target gloo-prod
    """
    loaded = load(config)
    from monitor.cli.rule_queries import rule_rows
    from monitor.reports.rules import rules_json, rules_text

    rows = rule_rows(loaded, target)
    if as_json:
        print_json(rules_json(rows))
    else:
        print_lines(rules_text(rows, width=terminal_width()))


@app.command("test")
def simulate(
    config: ConfigPath = None,
    status: Annotated[
        int | None, typer.Option("--status", help="The HTTP status of an answer of the API, such as 401.")
    ] = None,
    code: Annotated[
        str | None,
        typer.Option("--code", metavar="CODE", help="The error code in it, such as SPENDING_LIMIT_EXCEEDED."),
    ] = None,
    cause: Annotated[
        str | None,
        typer.Option(
            "--cause",
            metavar="CAUSE",
            help="Instead of an answer: a cause, such as items_stuck.",
            autocompletion=cause_names,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET",
            help="The target; channel:NAME for a channel.",
            show_default="the only one",
            autocompletion=target_names,
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="The group of the items.", show_default="none")
    ] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", metavar="NAME", help="The environment.", show_default="as configured")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate an answer: its cause, the rule, runs until an incident opens, routes, and notified channels.

    It sends no request and no message. Silences in force count if the database can be read.

    Example: ingestion-monitor rules test --status 401 --target gloo-prod
    """
    loaded = load(config)
    from monitor.cli.rule_queries import simulate_answer
    from monitor.reports.rules import simulation_json, simulation_text

    query, simulation, on = simulate_answer(
        loaded, status=status, code=code, cause=cause, target=target, group=group, environment=environment
    )
    if as_json:
        print_json(simulation_json(query, simulation, on=on))
    else:
        print_lines(simulation_text(query, simulation, on=on))
