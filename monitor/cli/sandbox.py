"""`sandbox`: serves the simulated data engine until a signal."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from monitor.cli.session import configure_logging, print_lines
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from monitor.sandbox import SandboxSettings
    from monitor.sandbox.faults import Fault
    from monitor.sandbox.rate_limits import Rate
    from monitor.sandbox.scenario import Scenario

T = TypeVar("T")

FAULT_NAMES = (
    "html502, spending-limit, drop, cut-headers, cut-body, drip, drip-headers, slow, slow-start, hang, token-storm"
)
"""A copy, so that `--help` need not import the sandbox; a test compares."""


def sandbox(
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            help="NAME[:key=value,…], active from the start; may be repeated. "
            f"A name is a status such as 503, or {FAULT_NAMES}. "
            "Keys: path, method, status, count, share, for, delay, drip, cut, header.NAME.",
            show_default="none",
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="RATE",
            help="Calls per credential, such as 50/s or 600/m; more get 429.",
            show_default="none",
        ),
    ] = None,
    retry_after: Annotated[bool, typer.Option("--retry-after", help="Send Retry-After with a 429 of --rate.")] = False,
    scenario: Annotated[
        Path | None,
        typer.Option("--scenario", help="Play this timeline (`ingestion-monitor docs sandbox`).", show_default="none"),
    ] = None,
    items: Annotated[int, typer.Option("--items", min=0, max=1_000_000, help="Items to begin with.")] = 0,
    item_seconds: Annotated[
        float, typer.Option("--item-seconds", min=0, help="How long an item takes through all its stages.")
    ] = 6.0,
    token_seconds: Annotated[float, typer.Option("--token-seconds", min=1, help="How long a token is valid.")] = 3600.0,
    cache_seconds: Annotated[
        float, typer.Option("--cache-seconds", min=0, help="How long an answer by producer id is cached.")
    ] = 300.0,
    delete_lag_seconds: Annotated[
        float, typer.Option("--delete-lag-seconds", min=0, help="How long a deleted item still gets an answer.")
    ] = 0.0,
) -> None:
    """Serve a simulated data engine, with faults on demand. It speaks Gloo's API.

    Example: ingestion-monitor sandbox --items 100 --fault 503:share=0.3 --rate 50/s
    """
    from monitor.sandbox import SandboxSettings, serve

    configure_logging(None)
    faults, calls, timeline = parse_options(fault or (), rate, scenario)
    settings = SandboxSettings(
        host=host,
        port=port,
        rate=calls,
        retry_after=retry_after,
        item_seconds=item_seconds,
        token_seconds=token_seconds,
        cache_seconds=cache_seconds,
        delete_lag_seconds=delete_lag_seconds,
    )

    def on_ready(url: str) -> None:
        print_lines(_welcome_text(url, settings))
        if timeline and timeline.about:
            print_lines(f"\n{timeline.about.strip()}")

    signal.signal(signal.SIGTERM, _exit)
    serve(
        settings,
        on_ready=on_ready,
        faults=faults,
        items=items,
        scenario=timeline,
        on_step=lambda step: print_lines(step.line()),
    )


def _exit(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def parse_options(
    faults: Sequence[str], rate: str | None, scenario: Path | None
) -> "tuple[list[Fault], Rate | None, Scenario | None]":
    """Parses faults and rate, and reads the scenario. Raises ConfigError with everything that is wrong."""
    from monitor.sandbox.faults import parse_fault
    from monitor.sandbox.rate_limits import parse_rate

    problems: list[str] = []
    parsed = (
        [fault for text in faults if (fault := _parse("--fault", text, parse_fault, problems))],
        _parse("--rate", rate, parse_rate, problems) if rate is not None else None,
        _scenario(scenario, problems) if scenario is not None else None,
    )
    if problems:
        raise ConfigError(problems)
    return parsed


def _parse(option: str, text: str, reader: Callable[[str], T], problems: list[str]) -> T | None:
    try:
        return reader(text)
    except ValueError as error:
        problems.append(f"{option} {text}: {error}")
        return None


def _scenario(path: Path, problems: list[str]) -> "Scenario | None":
    from monitor.sandbox.scenario import read_scenario

    try:
        return read_scenario(path.read_text(encoding="utf-8"), name=str(path))
    except ConfigError as error:
        problems.extend(error.problems)
    except OSError as error:
        problems.append(f"--scenario: {path} can't be read ({error.strerror}); name a file")
    except UnicodeDecodeError:
        problems.append(f"--scenario: {path} is no UTF-8 text; save it as UTF-8")
    return None


def _welcome_text(url: str, settings: "SandboxSettings") -> str:
    return (
        f"The sandbox serves Gloo's API at {url} until Ctrl-C.\n\n"
        f"  For .env:\n"
        f"    GLOO_PUBLISHER_ID={settings.publisher_id}\n"
        f"    GLOO_CLIENT_ID={settings.client_id}\n"
        f"    GLOO_CLIENT_SECRET={settings.client_secret}\n"
        f"  For monitor.toml (`ingestion-monitor init --base-url {url}` writes it):\n"
        f'    base_url = "{url}"\n\n'
        f"  It also accepts an API key: {settings.api_key}\n"
        f"  Faults at any time: POST {url}/_sandbox/faults (`ingestion-monitor docs sandbox`)"
    )
