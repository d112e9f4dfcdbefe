"""`check`: one run over each chosen target, side by side, then delivery; complete by itself, for cron."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from monitor.app import App, copy_limits, validate_providers, utcnow
from monitor.cli.exit_codes import FailOn, combined, exit_of
from monitor.cli.notify import UNREACHABLE, deliver, delivery_line
from monitor.cli.progress import bars
from monitor.cli.session import chosen, duration, load, opened, print_json, print_lines, scratch
from monitor.cli.signals import Interruption
from monitor.config import Config, TargetConfig
from monitor.database.engine import connect_read_only
from monitor.database.schema import ensure
from monitor.errors import ConfigError, LeaseHeldError, MonitorError, SlotSpentError, StoreError
from monitor.notifications.delivery import DeliveryReport
from monitor.reports.runs import all_is_well, run_json, run_text, shortfall
from monitor.runs.progress import Progress
from monitor.runs.report import RunReport
from monitor.runs.run import Job, Run

SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=1)
"""Of a deadline, as in the configuration."""
LONGEST_SLOT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """The command line of `check`."""

    targets: tuple[str, ...] = ()
    as_json: bool = False
    quiet: bool = False
    dry_run: bool = False
    deadline: str | None = None
    slot: str | None = None
    fail_on: str | None = None
    skip_ok: bool = False
    log_level: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
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
    _check_slot(options.slot)
    config = load(path, log_level=options.log_level or _log_level(options), without=_unheard(options))
    targets = chosen(config, options.targets)
    validate_providers(targets)
    with _app(config, dry_run=options.dry_run) as app:
        session = _Session(app, options, fail_on, deadline)
        ends, delivery = asyncio.run(session.run(targets))
    code = session.exit_code(ends, delivery)
    _print(options, ends, delivery, code)
    return code


def _log_level(options: CheckOptions) -> str | None:
    """What the log shows unless told otherwise: to people on a terminal nothing that the command itself prints."""
    if options.quiet:
        return "warning"
    return "error" if sys.stdout.isatty() and sys.stderr.isatty() else None


def _unheard(options: CheckOptions) -> frozenset[str]:
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
    return duration("--deadline", text, shortest=SHORTEST, longest=LONGEST, such_as='"30s", "4m" or "1h30m"')


def _check_slot(slot: str | None) -> None:
    if slot is not None and not (slot.strip() and slot.isprintable() and len(slot) <= LONGEST_SLOT):
        raise ConfigError([f"--slot: give it a name of 1 to {LONGEST_SLOT} printable characters"])


@contextmanager
def _app(config: Config, *, dry_run: bool) -> Iterator[App]:
    """The live parts; for a dry run on a database of its own that is thrown away, so that nothing can be written."""
    if not dry_run:
        with opened(config) as app:
            yield app
        return
    with scratch() as folder:
        engine, ours = ensure(f"sqlite:///{folder}/dry-run.db"), connect_read_only(config.database.reveal())
        try:
            # what the API said about coming back holds for a dry run, too
            copy_limits(config.targets, source=ours, destination=engine)
            yield App(config=config, engine=engine)
        finally:
            engine.dispose()
            ours.dispose()


class _Session:
    """The runs of one `check`, with their signals."""

    def __init__(self, app: App, options: CheckOptions, fail_on: frozenset[FailOn], deadline: timedelta | None) -> None:
        self._app, self._options, self._fail_on, self._deadline = app, options, fail_on, deadline
        self._interruption = Interruption()

    async def run(self, targets: Sequence[TargetConfig]) -> tuple[list[_End], DeliveryReport]:
        """Runs over the targets side by side, then delivers what is due."""
        self._interruption.heed()
        interrupt = self._interruption.event
        with bars(wanted=not (self._options.quiet or self._options.as_json)) as line:
            ends = await asyncio.gather(*(self._one(target, interrupt, line(target.name)) for target in targets))
        # the outbox is in the same database: what failed the runs would fail the delivery too
        if self._options.dry_run or interrupt.is_set() or any(end.store_failed for end in ends):
            return list(ends), DeliveryReport()
        try:
            return list(ends), await deliver(self._app.sender(), interrupt)
        except MonitorError as error:
            return [*ends, _End(target="messages", exit_code=error.exit_code, error=str(error))], DeliveryReport()

    async def _one(self, target: TargetConfig, interrupt: asyncio.Event, progress: Progress) -> _End:
        job = self._job(target)
        try:
            report = await Run(job, interrupt=interrupt, progress=progress, slot=self._options.slot)()
        except (LeaseHeldError, SlotSpentError) as error:
            code = 0 if self._options.skip_ok else error.exit_code
            return _End(target=target.name, exit_code=code, error=str(error), skipped=True)
        except MonitorError as error:
            failed = isinstance(error, StoreError)
            return _End(target=target.name, exit_code=error.exit_code, error=str(error), store_failed=failed)
        return _End(target=target.name, exit_code=exit_of(report, self._fail_on), report=report)

    def _job(self, target: TargetConfig) -> Job:
        job = self._app.job(target)
        if self._options.dry_run:
            job = replace(job, heartbeat=None)  # whoever is told of runs would take it for one
        return job if self._deadline is None else replace(job, deadline=self._deadline)

    def exit_code(self, ends: Sequence[_End], delivery: DeliveryReport) -> int:
        """The exit code of all of it."""
        if self._interruption.signal is not None:
            return 128 + self._interruption.signal
        return combined([*(end.exit_code for end in ends), UNREACHABLE if delivery.unreachable else 0])


def _print(options: CheckOptions, ends: Sequence[_End], delivery: DeliveryReport, code: int) -> None:
    told = [_sentence(end) for end in ends if not (options.quiet and end.skipped and end.exit_code == 0)]
    for sentence in dict.fromkeys(told):
        if sentence:
            print(sentence, file=sys.stderr)
    if options.as_json:
        print_json({**_as_json(ends, delivery, code), "dry_run": options.dry_run})
        return
    shown = [end.report for end in ends if end.report and not (options.quiet and all_is_well(end.report))]
    texts = [run_text(report, now=utcnow()) for report in shown]
    messages = delivery_line(delivery)
    if messages and (texts or not options.quiet or delivery.unreachable):
        texts.append(messages)
    if options.dry_run and not options.quiet:
        texts.append("Dry run: nothing was stored or sent, and earlier runs were not looked at.")
    if texts:
        print_lines("\n\n".join(texts))


def _sentence(end: _End) -> str | None:
    """Why a target was not checked, or not to the end."""
    sentence = end.error or (end.report and shortfall(end.report))
    return f"{'skipped' if end.skipped else 'error'}: {sentence}" if sentence else None


def _as_json(ends: Sequence[_End], delivery: DeliveryReport, code: int) -> dict[str, Any]:
    listed = [
        {**run_json(end.report), "exit_code": end.exit_code}
        if end.report
        else {"target": end.target, "error": end.error, "exit_code": end.exit_code}
        for end in ends
    ]
    messages = {"sent": delivery.sent, "deferred": delivery.deferred, "dead": delivery.dead}
    return {"targets": listed, "messages": messages, "exit_code": code}
