"""`check`: one run over each target, side by side, then delivery; complete by itself, for cron."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli.completion import fail_on_words
from monitor.cli.exit_codes import COULD_NOT_RUN, CUT_SHORT, UNREACHABLE, FailOn, combine_exit_codes, exit_code_of
from monitor.cli.options import AsJson, ConfigPath, LogLevel, TargetNames
from monitor.cli.session import (
    load,
    open_app,
    parse_duration_option,
    print_json,
    print_lines,
    select_targets,
    temporary_folder,
)
from monitor.cli.signals import SignalHandler, deliver, delivery_json, delivery_line
from monitor.cli.streams import log_loss
from monitor.errors import ConfigError, LeaseHeldError, MonitorError, RunAlreadyExecutedError, StoreError

if TYPE_CHECKING:
    import asyncio

    from monitor.app import App
    from monitor.config import Config, TargetConfig
    from monitor.notifications.delivery import DeliveryReport
    from monitor.reports.news import ChannelNews
    from monitor.runs.parallel import ParallelRuns
    from monitor.runs.progress import Progress
    from monitor.runs.report import RunReport
    from monitor.runs.run import Job

MIN_DURATION, MAX_DURATION = timedelta(seconds=1), timedelta(days=1)
"""Of a deadline, as in the configuration."""
MAX_RUN_KEY_LENGTH = 200
MAX_PARALLEL = 1_000


def check(
    config: ConfigPath = None,
    target: TargetNames = None,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only news: incidents that open or end, runs cut short, errors.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Go on from what is stored and print, but write and send nothing.")
    ] = False,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline", metavar="DURATION", help="Stop asking after this long, e.g. 4m.", show_default="as configured"
        ),
    ] = None,
    run_key: Annotated[
        str | None,
        typer.Option(
            "--run-key", metavar="NAME", help="A name for this run; a second run with the same name is skipped."
        ),
    ] = None,
    slot: Annotated[str | None, typer.Option("--slot", hidden=True)] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            "--fail-on",
            metavar="WORDS",
            help=f"Exit 1 if there is any of these: {', '.join(FailOn)}.",
            autocompletion=fail_on_words,
        ),
    ] = None,
    skip_ok: Annotated[bool, typer.Option("--skip-ok", help="Exit 0, not 5, if another run holds the target.")] = False,
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel",
            metavar="N",
            min=1,
            max=MAX_PARALLEL,
            help="How many targets run at a time.",
            show_default="by processors and database",
        ),
    ] = None,
    log_level: LogLevel = None,
) -> None:
    """Check every tracked item once: snapshot, incidents, delivery.

    Exit code: 0 ran and stored, 1 --fail-on matched, 4 partial, aborted, or no channel could be reached, 5 skipped.

    Example: ingestion-monitor check --config monitor.toml --fail-on failed,incident
    """
    from monitor.cli import event_loop

    if slot is not None:
        raise ConfigError(["--slot is now called --run-key"])
    codes, time_limit, key = _fail_on(fail_on), _deadline(deadline), _run_key(run_key)
    # a quiet run says by itself which messages were not delivered, unless that is known
    exclude = {"notification_not_delivered"} if quiet and log_level is None else ()
    loaded = load(config, log_level=log_level or _log_level(quiet=quiet), exclude=exclude, warnings=not quiet)
    from monitor.app import validate_providers

    targets = select_targets(loaded, target or ())
    validate_providers(targets)
    with _open_app(loaded, targets, dry_run=dry_run) as (app, not_copied):
        bars = not (quiet or as_json)
        session = Session(
            app=app,
            fail_on=codes,
            deadline=time_limit,
            run_key=key,
            dry_run=dry_run,
            skip_ok=skip_ok,
            parallel=parallel,
            progress_bars=bars,
        )
        news = _channel_news(app, targets) if quiet and not dry_run else None
        results, delivery = event_loop.run(session.run(targets))
        readable = not any(result.store_failed for result in results)
        channel_lines = news.lines(now=app.clock(), unreachable=delivery.unreachable) if news and readable else []
    code = session.exit_code(results, delivery)
    _print_errors(results, quiet=quiet)
    if as_json:
        print_json({**_as_json(results, delivery, code), "dry_run": dry_run})
    elif quiet:
        _print_news(results, delivery, channel_lines)
    else:
        _print_reports(results, delivery, ending=_dry_run_line(not_copied) if dry_run else "")
    raise typer.Exit(code)


def _log_level(*, quiet: bool) -> str | None:
    """The default log level: on a terminal the log does not repeat what the command prints."""
    if quiet:
        return "error"
    return "error" if sys.stdout.isatty() and sys.stderr.isatty() else None


def _fail_on(text: str | None) -> frozenset[FailOn]:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    known = [each.value for each in FailOn]
    if unknown := [word for word in words if word not in known]:
        raise ConfigError([f"--fail-on: {', '.join(unknown)} is none of {', '.join(known)}"])
    return frozenset(FailOn(word) for word in words)


def _deadline(text: str | None) -> timedelta | None:
    if text is None:
        return None
    return parse_duration_option(
        "--deadline", text, minimum=MIN_DURATION, maximum=MAX_DURATION, examples='"30s", "4m" or "1h30m"'
    )


def _run_key(text: str | None) -> str | None:
    if text is not None and not (text.strip() and text.isprintable() and len(text) <= MAX_RUN_KEY_LENGTH):
        raise ConfigError([f"--run-key: give a name of 1 to {MAX_RUN_KEY_LENGTH} printable characters"])
    return text


@contextmanager
def _open_app(
    config: "Config", targets: "Sequence[TargetConfig]", *, dry_run: bool
) -> "Iterator[tuple[App, str | None]]":
    """The live parts, and why a dry run starts from nothing, if it does.

    A dry run gets a copy of what is stored, which is deleted at the end, so that nothing can be written.
    """
    if not dry_run:
        with open_app(config) as app:
            yield app, None
        return
    from monitor.app import App
    from monitor.app.dry_run import copy_state
    from monitor.app.throttles import limits_of
    from monitor.config.slos import objectives_of
    from monitor.database.engine import connect, connect_read_only
    from monitor.database.schema import ensure

    with temporary_folder() as folder:
        engine, own_database = ensure(f"sqlite:///{folder}/dry-run.db"), connect_read_only(config.database.reveal())
        claims = connect(config.database.reveal()) if config.fleet.workers else None  # its requests are not dry
        try:
            promised = [each.name for each in targets if objectives_of(config.slos, each.name)]
            not_copied = copy_state(targets, source=own_database, destination=engine, promised=promised)
            yield App(config=config, engine=engine, limits=limits_of(config, claims=claims)), not_copied
        finally:
            for each in (engine, own_database, claims):
                if each is not None:
                    each.dispose()


def _channel_news(app: "App", targets: "Sequence[TargetConfig]") -> "ChannelNews":
    from monitor.reports.news import ChannelNews

    return ChannelNews(app.engine, targets=[target.name for target in targets])


def _dry_run_line(not_copied: str | None) -> str:
    start = "it started from what is stored" if not_copied is None else f"it started from nothing, because {not_copied}"
    return f"Dry run: nothing was stored or sent; {start}."


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """How one target's run ended: with a report, or an error."""

    target: str
    exit_code: int
    report: "RunReport | None" = None
    error: str | None = None
    skipped: bool = False
    store_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The runs of one `check`, with their signals."""

    app: "App"
    fail_on: frozenset[FailOn] = frozenset()
    deadline: timedelta | None = None
    run_key: str | None = None
    dry_run: bool = False
    skip_ok: bool = False
    parallel: int | None = None
    """Targets that run at a time; None: by processors and database."""
    progress_bars: bool = False
    signals: SignalHandler = field(default_factory=SignalHandler)

    async def run(self, targets: "Sequence[TargetConfig]") -> "tuple[list[TargetResult], DeliveryReport]":
        """Runs over the targets, several at a time, then delivers what is due."""
        import asyncio

        from monitor.notifications.delivery import DeliveryReport
        from monitor.runs.parallel import ParallelRuns

        parallel = ParallelRuns(self.parallel, on_sqlite=self.app.engine.dialect.name == "sqlite")
        self.signals.install()
        interrupt = self.signals.event
        with _progress(bars=self.progress_bars) as bar:
            runs = [self._check_in_turn(parallel, target, interrupt, bar(target.name)) for target in targets]
            results = await asyncio.gather(*runs)
        # the outbox is in the same database: if that failed, delivery would fail too
        if self.dry_run or interrupt.is_set() or any(result.store_failed for result in results):
            return results, DeliveryReport()
        try:
            return results, await deliver(self.app.sender(), interrupt)
        except MonitorError as error:
            failed = TargetResult(target="messages", exit_code=error.exit_code, error=str(error))
            return [*results, failed], DeliveryReport()

    async def _check_in_turn(
        self, parallel: "ParallelRuns", target: "TargetConfig", interrupt: "asyncio.Event", progress: "Progress"
    ) -> TargetResult:
        async with parallel.one():
            if not interrupt.is_set():
                return await self._check_target(target, interrupt, progress)
        unbegun = f"target {target.name}: it was not begun, because the check was interrupted; the next one checks it"
        return TargetResult(target=target.name, exit_code=CUT_SHORT, error=unbegun)

    async def _check_target(
        self, target: "TargetConfig", interrupt: "asyncio.Event", progress: "Progress"
    ) -> TargetResult:
        from monitor.runs.run import Run

        try:
            report = await Run(self._job(target), interrupt=interrupt, progress=progress, run_key=self.run_key)()
        except (LeaseHeldError, RunAlreadyExecutedError) as error:
            code = 0 if self.skip_ok else error.exit_code
            return TargetResult(target=target.name, exit_code=code, error=str(error), skipped=True)
        except MonitorError as error:
            failed = isinstance(error, StoreError)
            return TargetResult(target=target.name, exit_code=error.exit_code, error=str(error), store_failed=failed)
        except Exception as error:  # noqa: BLE001  # before the run began: this target's fault alone
            return TargetResult(target=target.name, exit_code=COULD_NOT_RUN, error=_unforeseen(target.name, error))
        return TargetResult(target=target.name, exit_code=exit_code_of(report, self.fail_on), report=report)

    def _job(self, target: "TargetConfig") -> "Job":
        job = self.app.job(target)
        if self.dry_run:
            job = replace(job, heartbeat=None)  # a heartbeat would report a run
        return job if self.deadline is None else replace(job, deadline=self.deadline)

    def exit_code(self, results: Sequence[TargetResult], delivery: "DeliveryReport") -> int:
        """The exit code of all runs and the delivery."""
        if self.signals.signal is not None:
            return 128 + self.signals.signal
        codes = [result.exit_code for result in results]
        return combine_exit_codes([*codes, UNREACHABLE if delivery.unreachable else 0])


def _unforeseen(target: str, error: Exception) -> str:
    """Logs an error that nobody foresaw; returns the sentence about it."""
    from monitor.logs import log_crash

    place = log_crash(error, integration=target)
    return f"target {target}: it can't be run ({place}); see run_crashed in the log, and report it"


@contextmanager
def _progress(*, bars: bool) -> "Iterator[Callable[[str], Progress]]":
    """A maker of progress displays, one per target: bars if wanted and stderr is a terminal, else nothing."""
    if not (bars and sys.stderr.isatty()):
        from monitor.runs.progress import NoProgress

        yield lambda _: NoProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as display:
        yield lambda name: _ProgressBar(display.add_task, display.update, name)


class _ProgressBar:
    """One target's bar."""

    def __init__(self, add: Callable[..., object], update: Callable[..., None], name: str) -> None:
        self._update, self._task = update, add(name, total=None)

    def begin(self, total: int) -> None:
        self._update(self._task, total=total)

    def advance(self) -> None:
        self._update(self._task, advance=1)


def _print_errors(results: Sequence[TargetResult], *, quiet: bool) -> None:
    """Prints on stderr why targets were not checked, or not to the end; if `quiet`, only what is news."""
    from monitor.reports.news import incomplete_is_news
    from monitor.reports.runs import incomplete_reason

    lines = []
    for result in results:
        reason = result.error
        if result.report and not (quiet and not incomplete_is_news(result.report)):
            reason = incomplete_reason(result.report)
        if reason and not (quiet and result.skipped and result.exit_code == 0):
            lines.append(f"{'skipped' if result.skipped else 'error'}: {reason}")
    for line in dict.fromkeys(lines):
        print(line, file=sys.stderr)


def _print_reports(results: Sequence[TargetResult], delivery: "DeliveryReport", *, ending: str) -> None:
    from monitor.app import utcnow
    from monitor.reports.runs import run_text

    texts = [run_text(result.report, now=utcnow()) for result in results if result.report]
    texts += [text for text in (delivery_line(delivery), _log_loss_line(), ending) if text]
    if texts:
        print_lines("\n\n".join(texts))


def _log_loss_line() -> str:
    loss = log_loss()
    return f"Log: {loss.lines} lines could not be written to stderr ({loss.reason})" if loss else ""


def _print_news(results: Sequence[TargetResult], delivery: "DeliveryReport", channel_lines: Sequence[str]) -> None:
    from monitor.app import utcnow
    from monitor.reports.news import news_text

    texts = [text for result in results if result.report and (text := news_text(result.report, now=utcnow()))]
    texts += ["\n".join(channel_lines)] if channel_lines else []
    texts += [loss] if (loss := _log_loss_line()) else []
    if texts and (messages := delivery_line(delivery)):
        texts.append(messages)
    if texts:
        print_lines("\n\n".join(texts))


def _as_json(results: Sequence[TargetResult], delivery: "DeliveryReport", code: int) -> dict[str, Any]:
    from monitor.reports.runs import run_json

    rows = [
        {**run_json(result.report), "exit_code": result.exit_code}
        if result.report
        else {"target": result.target, "error": result.error, "exit_code": result.exit_code}
        for result in results
    ]
    loss = log_loss()
    lost = loss.lines if loss else 0
    return {"targets": rows, "messages": delivery_json(delivery), "log_lines_lost": lost, "exit_code": code}
