"""`rules …`: lists the rules in force, simulates an answer of the API, and replays the past. It sends no request."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from monitor.app.backtest import BacktestResult
    from monitor.config import Config
    from monitor.model import Silence
    from monitor.reports.backtest import BacktestView

MIN_PERIOD, MAX_PERIOD = timedelta(minutes=1), timedelta(days=3653)

app = group("The rules of incidents: when they open and whom they notify.")


@app.command("list")
def listing(config: ConfigPath = None, target: TargetName = None, as_json: AsJson = False) -> None:
    """List the rule of each cause, of single targets where they differ, and where it was set.

    Example: ingestion-monitor rules list --target gloo-prod
    """
    loaded = load(config)
    from monitor.reports.rule_queries import rule_rows
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
    from monitor.app import utcnow
    from monitor.reports.rule_queries import simulate_answer
    from monitor.reports.rules import simulation_json, simulation_text

    now = utcnow()
    query, simulation, on = simulate_answer(
        loaded,
        status=status,
        code=code,
        cause=cause,
        target=target,
        group=group,
        environment=environment,
        silences=lambda: _silences_in_force(loaded, now),
        now=now,
    )
    if as_json:
        print_json(simulation_json(query, simulation, on=on))
    else:
        print_lines(simulation_text(query, simulation, on=on))


def _silences_in_force(config: "Config", now: datetime) -> "Sequence[Silence]":
    """The silences in force; none if the database can't be read: nothing else in the answer needs it."""
    from monitor.database.engine import connect_read_only, reading
    from monitor.errors import StoreError
    from monitor.incidents import silence_store

    engine = connect_read_only(config.database.reveal())
    try:
        with reading(engine) as conn:
            return silence_store.active(conn, now=now)
    except StoreError:
        return ()
    finally:
        engine.dispose()


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
    from monitor.reports.backtest import backtest_json, backtest_text

    now = utcnow()
    end, _ = (now, True) if until is None else parse_time("--until", until)
    period = parse_duration_option(
        "--since", since, minimum=MIN_PERIOD, maximum=MAX_PERIOD, examples='"24h", "30d" or "365d"'
    )
    if end > now:
        raise ConfigError(["--until: this time is still to come; a backtest is about the past"])
    candidate = loaded if rules is None else _candidate_rules(config, rules)
    with open_app(loaded) as app:
        for name in target or ():
            require_known_target(app, name)
        targets = list(dict.fromkeys(target or [each.name for each in loaded.targets]))
        result = run_backtest(app.engine, loaded, candidate, targets=targets, since=end - period, until=end)
    view = _backtest_view(result, loaded, candidate, rules)
    if as_json:
        print_json(backtest_json(view, limit=limit))
    else:
        print_lines(backtest_text(view, limit=limit, width=terminal_width()))


def _candidate_rules(path: Path | None, rules: Path) -> "Config":
    """The configuration with the rules and routes of a file in place of its own.

    `path` is that of the configuration, as given. Raises ConfigError with every problem of the file.
    """
    from monitor.config import load_config
    from monitor.config.candidate import load_candidate

    return load_candidate(rules, lambda settings: load_config(path, overrides=settings))


def _backtest_view(
    result: "BacktestResult", config: "Config", candidate: "Config", rules: Path | None
) -> "BacktestView":
    """The result of a backtest with the words for its rules; `rules` is the file with candidates, if any."""
    from monitor.reports.backtest import BacktestView

    found = result.found
    return BacktestView(
        since=found.since,
        until=found.until,
        targets=result.targets,
        rules=_rules_text(config, candidate, rules),
        runs=found.runs,
        evidence=found.evidence,
        incidents=found.incidents,
        not_replayed=found.not_replayed,
        people=found.people,
        inexact=result.inexact,
    )


def _rules_text(config: "Config", candidate: "Config", rules: Path | None) -> str:
    """Where rules and routes come from: `stricter.toml, in place of 2 [[rules]] as configured`."""
    if rules is None:
        return "as configured"
    sentences = []
    for table, before, after in (("rules", config.rules, candidate.rules), ("routes", config.routes, candidate.routes)):
        if before == after:
            sentences.append(f"[[{table}]] as configured")
        else:
            replaced = f", in place of {len(before)} as configured" if before else ""
            sentences.append(f"{len(after)} [[{table}]] of {rules.name}{replaced}")
    return "; ".join(sentences)
