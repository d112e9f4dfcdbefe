"""`sandbox`: serves the simulated data engine until a signal."""

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from monitor.cli.session import configure_logging, print_lines
from monitor.errors import ConfigError
from monitor.sandbox import SandboxSettings, serve
from monitor.sandbox.faults import Fault, parse_fault
from monitor.sandbox.rate_limits import Rate, parse_rate
from monitor.sandbox.scenario import Scenario, read_scenario

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """The command line."""

    port: int
    host: str
    fault: Sequence[str]
    rate: str | None
    retry_after: bool
    scenario: Path | None
    items: int
    item_seconds: float
    token_seconds: float
    cache_seconds: float
    delete_lag_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOptions:
    """The command line, understood."""

    settings: SandboxSettings
    faults: Sequence[Fault]
    scenario: Scenario | None


def parse_options(options: SandboxOptions) -> ParsedOptions:
    """Understands the command line, and reads the scenario.

    Raises:
        ConfigError: with everything that is wrong.
    """
    problems: list[str] = []
    faults = [_parse("--fault", text, parse_fault, problems) for text in options.fault]
    rate: Rate | None = _parse("--rate", options.rate, parse_rate, problems) if options.rate is not None else None
    scenario = _scenario(options.scenario, problems) if options.scenario is not None else None
    if problems:
        raise ConfigError(problems)
    settings = SandboxSettings(
        host=options.host,
        port=options.port,
        rate=rate,
        retry_after=options.retry_after,
        item_seconds=options.item_seconds,
        token_seconds=options.token_seconds,
        cache_seconds=options.cache_seconds,
        delete_lag_seconds=options.delete_lag_seconds,
    )
    return ParsedOptions(settings=settings, faults=[fault for fault in faults if fault], scenario=scenario)


def sandbox(options: SandboxOptions) -> None:
    """Serves on host and port; prints what a client needs first, and each step of the scenario as it happens.

    Raises:
        ConfigError: an option can't be understood.
        MonitorError: the port is taken.
    """
    configure_logging(None)
    parsed = parse_options(options)

    def stop(signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    def on_ready(url: str) -> None:
        print_lines(_welcome_text(url, parsed.settings))
        if parsed.scenario and parsed.scenario.about:
            print_lines(f"\n{parsed.scenario.about.strip()}")

    signal.signal(signal.SIGTERM, stop)
    serve(
        parsed.settings,
        on_ready=on_ready,
        faults=parsed.faults,
        items=options.items,
        scenario=parsed.scenario,
        on_step=lambda step: print_lines(step.line()),
    )


def _welcome_text(url: str, settings: SandboxSettings) -> str:
    return (
        f"The sandbox serves Gloo's API at {url} until Ctrl-C.\n\n"
        f"  For .env:\n"
        f"    GLOO_PUBLISHER_ID={settings.publisher_id}\n"
        f"    GLOO_CLIENT_ID={settings.client_id}\n"
        f"    GLOO_CLIENT_SECRET={settings.client_secret}\n"
        f"  For monitor.toml (`ingestion-monitor init --base-url {url}` writes it):\n"
        f'    base_url = "{url}"\n\n'
        f"  An API key that it takes as well: {settings.api_key}\n"
        f"  Any faults you like: POST {url}/_sandbox/faults (docs/sandbox.md)"
    )


def _parse(option: str, text: str, reader: Callable[[str], T], problems: list[str]) -> T | None:
    try:
        return reader(text)
    except ValueError as error:
        problems.append(f"{option} {text}: {error}")
        return None


def _scenario(path: Path, problems: list[str]) -> Scenario | None:
    try:
        return read_scenario(path.read_text(encoding="utf-8"), name=str(path))
    except ConfigError as error:
        problems.extend(error.problems)
    except OSError as error:
        problems.append(f"--scenario: {path} can't be read ({error.strerror}); name a file")
    except UnicodeDecodeError:
        problems.append(f"--scenario: {path} is no UTF-8 text; save it as UTF-8")
    return None
