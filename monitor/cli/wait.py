"""`wait`: until each item is settled, or the time is over. `status`: what the API says of items now.

Both ask about the given ids alone. They need no lease and change no item, so they disturb no run.
"""

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.completion import one_of, target_names
from monitor.cli.exit_codes import COULD_NOT_RUN, CUT_SHORT, MATCHED
from monitor.cli.options import AsJson, ConfigPath
from monitor.cli.session import load, open_app, parse_duration_option, print_json, print_lines
from monitor.cli.signals import SignalHandler
from monitor.cli.wait_ids import one_target, read_entries, require_one_source, since_option
from monitor.errors import MonitorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.app import App
    from monitor.config import TargetConfig
    from monitor.model import SyncLogEntry
    from monitor.providers import Provider
    from monitor.waits.report import WaitReport
    from monitor.waits.wait import Wait

MIN_TIMEOUT, MAX_TIMEOUT = timedelta(seconds=1), timedelta(days=7)
STATUS_TIMEOUT = timedelta(minutes=4)
"""The default deadline of a run."""
_FIRST_LINE_S, _LINE_GROWTH, _MAX_LINE_S = 10.0, 1.5, 60.0
"""Seconds until the first line of progress in a log, how the pauses between lines grow, and the longest of them."""
_BAR_S = 0.25

Target = Annotated[
    str, typer.Argument(help="The target whose items they are.", show_default=False, autocompletion=target_names)
]
ItemIds = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of items.", show_default=False)]
IdsFrom = Annotated[
    str | None,
    typer.Option(
        "--ids-from",
        metavar="FILE",
        help="A file of ids: one per line, CSV or JSON lines; - is standard input.",
        show_default="none",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        help="debug, info, warning or error, on stderr.",
        autocompletion=one_of("debug", "info", "warning", "error"),
        show_default="error",
    ),
]


def wait(
    target: Target,
    item_ids: ItemIds = None,
    ids_from: IdsFrom = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="DURATION",
            help="The ids that the sync log has of the last hour, day …, e.g. 1h.",
            show_default="none",
        ),
    ] = None,
    timeout: Annotated[str, typer.Option("--timeout", metavar="DURATION", help="The whole budget: 1s to 7d.")] = "10m",
    config: ConfigPath = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
) -> None:
    """Wait until the API is done with items: completed, failed, missing or invalid.

    Exit code: 0 all completed, 1 some failed, are missing or invalid, 4 time ran out, or waiting does not help.

    Example: ./upload > ids.txt && ingestion-monitor wait gloo-prod --ids-from ids.txt --timeout 15m
    """
    require_one_source("wait", item_ids or (), ids_from, since)
    period = since_option(since)
    budget = parse_duration_option(
        "--timeout", timeout, minimum=MIN_TIMEOUT, maximum=MAX_TIMEOUT, examples='"90s", "10m" or "2h"'
    )
    loaded = load(config, log_level=log_level or "error")
    from monitor.app import build_provider

    settings = one_target(loaded, target)
    provider = build_provider(settings)
    with open_app(loaded) as app:
        entries = read_entries(app, settings, provider, item_ids=item_ids or (), ids_from=ids_from, since=period)
        if not entries:
            _nothing_to_do(target, since, as_json=as_json)
            return
        report, code = _ask(_Asking(app, settings, provider, entries, budget, bars=not as_json))
    from monitor.reports.waits import wait_json, wait_text

    if as_json:
        print_json({**wait_json(report), "exit_code": code})
    else:
        print_lines(wait_text(report))
    if report.not_stored:
        print(f"warning: this wait is not in the history: {report.not_stored}", file=sys.stderr)
    raise typer.Exit(code)


def status(
    target: Target,
    item_ids: ItemIds = None,
    ids_from: IdsFrom = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
    log_level: LogLevel = None,
) -> None:
    """Say what the API knows of items now: one question each, nothing is stored.

    Exit code: 0 the API answered about all of them, whatever it said; 4 not about all.

    Example: ingestion-monitor status gloo-prod 6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11
    """
    require_one_source("status", item_ids or (), ids_from)
    loaded = load(config, log_level=log_level or "error")
    from monitor.app import build_provider

    settings = one_target(loaded, target)
    provider = build_provider(settings)
    with open_app(loaded) as app:
        entries = read_entries(app, settings, provider, item_ids=item_ids or (), ids_from=ids_from)
        if not entries:
            _nothing_to_do(target, None, as_json=as_json)
            return
        report, code = _ask(_Asking(app, settings, provider, entries, STATUS_TIMEOUT, bars=False, once=True))
    from monitor.reports.waits import status_json, status_text

    if as_json:
        print_json({**status_json(report), "exit_code": code})
    else:
        print_lines(status_text(report))
    raise typer.Exit(code)


def _nothing_to_do(target: str, since: str | None, *, as_json: bool) -> None:
    what = f"the sync log has no upload of the last {since}" if since else "no ids were given"
    if as_json:
        print_json({"target": target, "asked": 0, "total": 0, "shown": 0, "items": [], "exit_code": 0})
    print(f"warning: {target}: {what}; nothing was asked", file=sys.stderr)


class _Asking:
    """One wait, or one look (`once`), with its signals and its progress."""

    def __init__(
        self,
        app: "App",
        target: "TargetConfig",
        provider: "Provider",
        entries: "Sequence[SyncLogEntry]",
        budget: timedelta,
        *,
        bars: bool,
        once: bool = False,
    ) -> None:
        self._app, self._target, self._provider, self._entries = app, target, provider, entries
        self._budget, self._bars, self.once = budget, bars, once
        self.signals: SignalHandler | None = None

    async def run(self) -> "WaitReport":
        """Runs it. Raises MonitorError if it can't be begun."""
        from monitor.app.waiting import Waiting, client_for, watched_items

        self.signals = signals = SignalHandler()
        signals.install()
        app, target, provider = self._app, self._target, self._provider
        items = watched_items(app, target, provider, self._entries)
        async with client_for(app, target, provider) as client:
            waiting = Waiting(app=app, target=target, provider=provider, client=client)
            if self.once:
                return await waiting.look(items, timeout=self._budget, interrupt=signals.event).run()
            wait = waiting.wait(items, timeout=self._budget, interrupt=signals.event)
            async with _progress(wait, target.name, self._budget, bars=self._bars):
                return await waiting.run(wait)


def _ask(asking: _Asking) -> "tuple[WaitReport, int]":
    """The report, and the exit code. Raises MonitorError."""
    from monitor.cli import event_loop

    try:
        report = event_loop.run(asking.run())
    except MonitorError:
        raise
    except Exception as error:
        from monitor.logs import log_crash

        raise MonitorError(f"this ended by an error that nobody foresaw ({log_crash(error)}); report it") from error
    signal = asking.signals.signal if asking.signals else None
    if signal is not None:
        return report, 128 + signal
    return report, exit_code_of_look(report) if asking.once else exit_code_of(report)


def exit_code_of_look(report: "WaitReport") -> int:
    """0: something was found out about each item; 4: not about all."""
    return CUT_SHORT if report.counts.unknown else 0


def exit_code_of(report: "WaitReport") -> int:
    """0: all completed; 1: some are settled otherwise; 4: some are not settled."""
    from monitor.waits.rules import WaitResult

    match report.result:
        case WaitResult.COMPLETED:
            return 0
        case WaitResult.FAILED:
            return MATCHED
        case WaitResult.TIMED_OUT | WaitResult.STOPPED:
            return CUT_SHORT
        case _:
            return COULD_NOT_RUN


@asynccontextmanager
async def _progress(wait: "Wait", target: str, budget: timedelta, *, bars: bool) -> "AsyncIterator[None]":
    """Shows how far a wait is: a bar if stderr is a terminal, else now and then a line there."""
    import asyncio

    started_s = time.monotonic()
    with _bar(wait, target, enabled=bars and sys.stderr.isatty()) as draw:
        show = draw or (lambda: _print_line(wait, target, budget, time.monotonic() - started_s))
        showing = asyncio.create_task(_repeat(show, is_bar=draw is not None))
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)


async def _repeat(show: Callable[[], None], *, is_bar: bool) -> None:
    import asyncio

    pause_s = _BAR_S if is_bar else _FIRST_LINE_S
    while True:
        await asyncio.sleep(pause_s)
        show()
        if not is_bar:
            pause_s = min(_MAX_LINE_S, pause_s * _LINE_GROWTH)


def _print_line(wait: "Wait", target: str, budget: timedelta, elapsed_s: float) -> None:
    from monitor.reports.waits import progress_text

    line = progress_text(target, wait.tally(), elapsed_s=elapsed_s, timeout=budget, error=wait.last_error)
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _bar(wait: "Wait", target: str, *, enabled: bool) -> "Iterator[Callable[[], None] | None]":
    """What redraws the bar; None without one."""
    if not enabled:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task(target, total=len(wait.items))

        def draw() -> None:
            counts = wait.tally()
            problems = f", {counts.problems} not completed" if counts.problems else ""
            display.update(task, completed=counts.settled, description=f"{target}{problems}")

        yield draw
