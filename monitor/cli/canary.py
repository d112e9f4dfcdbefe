"""`canary`: uploads a tiny document, waits until it is indexed, retrieves a piece of it, and deletes it."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.completion import target_names
from monitor.cli.exit_codes import MATCHED, SKIPPED
from monitor.cli.options import AsJson, ConfigPath, LogLevel
from monitor.cli.session import load, open_app, parse_duration_option, print_json, print_lines
from monitor.cli.signals import SignalHandler
from monitor.errors import ConfigError, LeaseHeldError

if TYPE_CHECKING:
    from monitor.app import App
    from monitor.config import Config, TargetConfig
    from monitor.runs.canary.model import CanaryReport, Step

MIN_TIMEOUT, MAX_TIMEOUT = timedelta(seconds=1), timedelta(days=2)
"""As in the configuration."""


def canary(
    target: Annotated[str, typer.Argument(help="The target to try.", show_default=False, autocompletion=target_names)],
    config: ConfigPath = None,
    as_json: AsJson = False,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="DURATION",
            help="How long the document may take to be indexed, e.g. 10m.",
            show_default="as configured, else twice slow_after",
        ),
    ] = None,
    skip_ok: Annotated[bool, typer.Option("--skip-ok", help="Exit 0, not 5, if another canary holds it.")] = False,
    log_level: LogLevel = None,
) -> None:
    """Upload a tiny document, wait until it is indexed, retrieve a piece of it, and delete it.

    Exit code: 0 each step worked, also if slowly; 1 a step failed; 5 another canary of the target is in progress. What
    a canary leaves that is killed, the next one deletes.

    Example: ingestion-monitor canary gloo-prod --timeout 10m
    """
    from monitor.cli import event_loop

    budget = _parse_timeout(timeout)
    quiet = sys.stdout.isatty() and sys.stderr.isatty()
    loaded = load(config, log_level=log_level or ("error" if quiet else None))
    chosen = _target(loaded, target)
    with open_app(loaded) as app:
        handler = SignalHandler()
        try:
            report = event_loop.run(_run(app, chosen, budget, handler, show_steps=not as_json and sys.stderr.isatty()))
        except LeaseHeldError as error:
            _print_skipped(target, error, as_json=as_json)
            raise typer.Exit(0 if skip_ok else SKIPPED) from None
    _print(report, as_json=as_json)
    if handler.signal is not None:
        raise typer.Exit(128 + handler.signal)
    raise typer.Exit(MATCHED if report.failure is not None else 0)


def _parse_timeout(text: str | None) -> timedelta | None:
    if text is None:
        return None
    return parse_duration_option(
        "--timeout", text, minimum=MIN_TIMEOUT, maximum=MAX_TIMEOUT, examples='"90s", "10m" or "1h"'
    )


def _target(config: "Config", name: str) -> "TargetConfig":
    for target in config.targets:
        if target.name == name:
            return target
    known = ", ".join(target.name for target in config.targets)
    raise ConfigError([f"there is no target {name!a}; choose from {known}"])


async def _run(
    app: "App", target: "TargetConfig", budget: timedelta | None, handler: SignalHandler, *, show_steps: bool
) -> "CanaryReport":
    from monitor.app.canaries import build_canary_job
    from monitor.runs.canary.canary import Canary

    job = build_canary_job(app, target, budget=budget)
    handler.install()
    return await Canary(job, interrupt=handler.event, on_step=_show if show_steps else _ignore)()


def _show(step: "Step") -> None:
    print(f"  {step.value.replace('_', ' ')} …", file=sys.stderr, flush=True)


def _ignore(_: "Step") -> None:
    """Shows nothing: nobody watches."""


def _print(report: "CanaryReport", *, as_json: bool) -> None:
    from monitor.reports.canary import canary_json, canary_text

    if as_json:
        print_json(canary_json(report))
    else:
        print_lines(canary_text(report))


def _print_skipped(target: str, error: LeaseHeldError, *, as_json: bool) -> None:
    text = f"another canary of {target} is in progress ({error.holder})"
    if as_json:
        print_json({"target": target, "status": "skipped", "reason": text})
    else:
        print_lines(f"Canary: skipped: {text}")
