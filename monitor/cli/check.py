"""`check`: one run over each chosen target, side by side, then delivery; complete by itself, for cron."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from monitor.app import App, copy_limits, utcnow, validate_providers
from monitor.cli.exit_codes import FailOn, combine_exit_codes, exit_code_of
from monitor.cli.notify import UNREACHABLE, deliver, delivery_line
from monitor.cli.progress import progress_bars
from monitor.cli.session import (
    load,
    open_app,
    parse_duration_option,
    print_json,
    print_lines,
    select_targets,
    temporary_folder,
)
from monitor.cli.signals import SignalHandler
from monitor.config import Config, TargetConfig
from monitor.database.engine import connect_read_only
from monitor.database.schema import ensure
from monitor.errors import ConfigError, LeaseHeldError, MonitorError, RunAlreadyExecutedError, StoreError
from monitor.notifications.delivery import DeliveryReport
from monitor.reports.runs import incomplete_reason, nothing_to_report, run_json, run_text
from monitor.runs.progress import Progress
from monitor.runs.report import RunReport
from monitor.runs.run import Job, Run

MIN_DURATION, MAX_DURATION = timedelta(seconds=1), timedelta(days=1)
"""Of a deadline, as in the configuration."""
MAX_RUN_KEY_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """The command line of `check`."""

    targets: tuple[str, ...] = ()
    as_json: bool = False
    quiet: bool = False
    dry_run: bool = False
    deadline: str | None = None
    run_key: str | None = None
    fail_on: str | None = None
    skip_ok: bool = False
    log_level: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _TargetResult:
    """How one target's run ended: with a report, or an error."""

    target: str
    exit_code: int
    report: RunReport | None = None
    error: str | None = None
    skipped: bool = False
    store_failed: bool = False


def check(path: Path | None, options: CheckOptions) -> int:
    """Checks the chosen targets and prints what was found; gives back the exit code.

    Raises:
        ConfigError: the configuration or an option is wrong; nothing was contacted or written.
        StoreError: the database can't be opened.
    """
    fail_on, deadline = _fail_on(options.fail_on), _deadline(options.deadline)
    _check_run_key(options.run_key)
    config = load(path, log_level=options.log_level or _log_level(options), exclude=_suppressed_events(options))
    targets = select_targets(config, options.targets)
    validate_providers(targets)
    with _open_app(config, dry_run=options.dry_run) as app:
        session = _Session(app, options, fail_on, deadline)
        results, delivery = asyncio.run(session.run(targets))
    code = session.exit_code(results, delivery)
    _print(options, results, delivery, code)
    return code


def _log_level(options: CheckOptions) -> str | None:
    """What the log shows unless told otherwise: to people on a terminal nothing that the command itself prints."""
    if options.quiet:
        return "warning"
    return "error" if sys.stdout.isatty() and sys.stderr.isatty() else None


def _suppressed_events(options: CheckOptions) -> frozenset[str]:
    """What a quiet run does not log unless told to: failures of single requests, for which retries are there.

    Those that did not pass are in what the command prints.
    """
    return frozenset({"requests_failed"}) if options.quiet and options.log_level is None else frozenset()


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


def _check_run_key(run_key: str | None) -> None:
    if run_key is not None and not (run_key.strip() and run_key.isprintable() and len(run_key) <= MAX_RUN_KEY_LENGTH):
        raise ConfigError([f"--slot: give it a name of 1 to {MAX_RUN_KEY_LENGTH} printable characters"])


@contextmanager
def _open_app(config: Config, *, dry_run: bool) -> Iterator[App]:
    """The live parts; for a dry run on a database of its own that is thrown away, so that nothing can be written."""
    if not dry_run:
        with open_app(config) as app:
            yield app
        return
    with temporary_folder() as folder:
        engine, own_database = ensure(f"sqlite:///{folder}/dry-run.db"), connect_read_only(config.database.reveal())
        try:
            # what the API said about coming back holds for a dry run, too
            copy_limits(config.targets, source=own_database, destination=engine)
            yield App(config=config, engine=engine)
        finally:
            engine.dispose()
            own_database.dispose()


class _Session:
    """The runs of one `check`, with their signals."""

    def __init__(self, app: App, options: CheckOptions, fail_on: frozenset[FailOn], deadline: timedelta | None) -> None:
        self._app, self._options, self._fail_on, self._deadline = app, options, fail_on, deadline
        self._signal_handler = SignalHandler()

    async def run(self, targets: Sequence[TargetConfig]) -> tuple[list[_TargetResult], DeliveryReport]:
        """Runs over the targets side by side, then delivers what is due."""
        self._signal_handler.install()
        interrupt = self._signal_handler.event
        with progress_bars(wanted=not (self._options.quiet or self._options.as_json)) as bar:
            results = await asyncio.gather(
                *(self._check_target(target, interrupt, bar(target.name)) for target in targets)
            )
        # the outbox is in the same database: what failed the runs would fail the delivery too
        if self._options.dry_run or interrupt.is_set() or any(result.store_failed for result in results):
            return list(results), DeliveryReport()
        try:
            return list(results), await deliver(self._app.sender(), interrupt)
        except MonitorError as error:
            return [
                *results,
                _TargetResult(target="messages", exit_code=error.exit_code, error=str(error)),
            ], DeliveryReport()

    async def _check_target(self, target: TargetConfig, interrupt: asyncio.Event, progress: Progress) -> _TargetResult:
        job = self._job(target)
        try:
            report = await Run(job, interrupt=interrupt, progress=progress, run_key=self._options.run_key)()
        except (LeaseHeldError, RunAlreadyExecutedError) as error:
            code = 0 if self._options.skip_ok else error.exit_code
            return _TargetResult(target=target.name, exit_code=code, error=str(error), skipped=True)
        except MonitorError as error:
            failed = isinstance(error, StoreError)
            return _TargetResult(target=target.name, exit_code=error.exit_code, error=str(error), store_failed=failed)
        return _TargetResult(target=target.name, exit_code=exit_code_of(report, self._fail_on), report=report)

    def _job(self, target: TargetConfig) -> Job:
        job = self._app.job(target)
        if self._options.dry_run:
            job = replace(job, heartbeat=None)  # whoever is told of runs would take it for one
        return job if self._deadline is None else replace(job, deadline=self._deadline)

    def exit_code(self, results: Sequence[_TargetResult], delivery: DeliveryReport) -> int:
        """The exit code of all of it."""
        if self._signal_handler.signal is not None:
            return 128 + self._signal_handler.signal
        return combine_exit_codes(
            [*(result.exit_code for result in results), UNREACHABLE if delivery.unreachable else 0]
        )


def _print(options: CheckOptions, results: Sequence[_TargetResult], delivery: DeliveryReport, code: int) -> None:
    lines = [
        _error_line(result) for result in results if not (options.quiet and result.skipped and result.exit_code == 0)
    ]
    for line in dict.fromkeys(lines):
        if line:
            print(line, file=sys.stderr)
    if options.as_json:
        print_json({**_as_json(results, delivery, code), "dry_run": options.dry_run})
        return
    reports = [
        result.report
        for result in results
        if result.report and not (options.quiet and nothing_to_report(result.report))
    ]
    texts = [run_text(report, now=utcnow()) for report in reports]
    messages = delivery_line(delivery)
    if messages and (texts or not options.quiet or delivery.unreachable):
        texts.append(messages)
    if options.dry_run and not options.quiet:
        texts.append("Dry run: nothing was stored or sent, and earlier runs were not looked at.")
    if texts:
        print_lines("\n\n".join(texts))


def _error_line(result: _TargetResult) -> str | None:
    """Why a target was not checked, or not to the end."""
    line = result.error or (result.report and incomplete_reason(result.report))
    return f"{'skipped' if result.skipped else 'error'}: {line}" if line else None


def _as_json(results: Sequence[_TargetResult], delivery: DeliveryReport, code: int) -> dict[str, Any]:
    rows = [
        {**run_json(result.report), "exit_code": result.exit_code}
        if result.report
        else {"target": result.target, "error": result.error, "exit_code": result.exit_code}
        for result in results
    ]
    messages = {"sent": delivery.sent, "deferred": delivery.deferred, "dead": delivery.dead}
    return {"targets": rows, "messages": messages, "exit_code": code}
