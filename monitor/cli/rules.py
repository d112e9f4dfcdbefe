"""`rules …`: lists the rules in force, simulates an answer of the API, and replays the past. It sends no request."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli.completion import cause_names, target_names
from monitor.cli.options import AsJson, ConfigPath, TargetName, TargetNames, group
from monitor.cli.session import (
    load,
    open_app,
    parse_duration_option,
    parse_time,
    print_json,
    print_lines,
    require_known_target,
    terminal_width,
)
from monitor.errors import ConfigError

MIN_PERIOD, MAX_PERIOD = timedelta(minutes=1), timedelta(days=3653)

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


@app.command("backtest")
def backtest(
    config: ConfigPath = None,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="How long before the end it begins: 1m to 3653d.")
    ] = "30d",
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="The end, e.g. 2026-03-01T06:00 (UTC).", show_default="now"),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            "--rules",
            metavar="FILE",
            help="A TOML file whose [[rules]] and [[routes]] are replayed in place of the configured ones.",
            show_default="as configured",
        ),
    ] = None,
    target: TargetNames = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many incidents, those that differ first.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Replay the stored runs by other rules: what would have opened, resolved and been sent, beside what happened.

    It sends no request and no message, and writes nothing.

    Example: ingestion-monitor rules backtest --since 30d --rules stricter.toml
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.app.backtest import run_backtest
    from monitor.cli.rule_queries import backtest_view, candidate_rules
    from monitor.reports.backtest import backtest_json, backtest_text

    now = utcnow()
    end, _ = (now, True) if until is None else parse_time("--until", until)
    period = parse_duration_option(
        "--since", since, minimum=MIN_PERIOD, maximum=MAX_PERIOD, examples='"24h", "30d" or "365d"'
    )
    if end > now:
        raise ConfigError(["--until: this time is still to come; a backtest is about the past"])
    candidate = loaded if rules is None else candidate_rules(config, rules)
    with open_app(loaded) as app:
        for name in target or ():
            require_known_target(app, name)
        targets = list(dict.fromkeys(target or [each.name for each in loaded.targets]))
        result = run_backtest(app.engine, loaded, candidate, targets=targets, since=end - period, until=end)
    view = backtest_view(result, loaded, candidate, rules)
    if as_json:
        print_json(backtest_json(view, limit=limit))
    else:
        print_lines(backtest_text(view, limit=limit, width=terminal_width()))
