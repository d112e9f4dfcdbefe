"""Pings a dead man's switch at the start and the end of each run.

The pings follow Healthchecks: `/start`, the bare URL for success, `/fail`, each with the run's `rid`. A run that finds
the API down is a success: the monitor worked. A failing ping neither fails nor delays a run.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

import structlog

from monitor.errors import (
    LeaseHeldError,
    LeaseLostError,
    MonitorError,
    RunAlreadyExecutedError,
    RunGivenBackError,
    StoreError,
)
from monitor.model import Reason, RunStatus
from monitor.model.http import CallResult, Operation, Request
from monitor.runs.report import RunReport
from monitor.runs.rollup import health_line

PING_TIMEOUT_S = 5.0
"""Wall-clock seconds for a ping, including its second attempt."""
SIGNAL_PING_TIMEOUT_S = 2.0
"""The same after a signal, when the process must end soon."""


_NOT_FOUND = 404
"""Only some services know `/start`; the others need nothing but the end of a run."""


class Ping(StrEnum):
    """The kinds of ping; the value is the end of the path."""

    START = "/start"
    SUCCESS = ""
    FAIL = "/fail"


def ping_url(url: str, ping: Ping, rid: str) -> str:
    """The URL of a ping; an existing query is kept. `rid` is the run's UUID, which links start and end."""
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, f"rid={rid}") if part)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + ping.value, query=query))


def ping_for(outcome: RunReport | BaseException) -> tuple[Ping, str]:
    """The ping for the end of a run (its report, or the exception), with the reason as text."""
    if isinstance(outcome, RunReport):
        if outcome.status is RunStatus.FAILED:
            return Ping.FAIL, "the sync log can't be read"
        if outcome.status is RunStatus.PARTIAL and outcome.abort_reason == Reason.INTERRUPTED:
            return Ping.FAIL, "a signal cut the run short"
        health = health_line(outcome.snapshot) if outcome.snapshot else ""
        return Ping.SUCCESS, f"{_status_text(outcome)}. {health}"
    if isinstance(outcome, asyncio.CancelledError):
        return Ping.FAIL, "a signal ended the run"
    for kind, reason in _FAILURE_TEXTS:
        if isinstance(outcome, kind):
            return Ping.FAIL, reason
    return Ping.FAIL, f"the run failed ({type(outcome).__name__})"


_FAILURE_TEXTS: tuple[tuple[type[BaseException], str], ...] = (
    (StoreError, "the monitor's own database can't be used"),
    (LeaseLostError, "another run took over"),
    (MonitorError, "the run could not be carried out"),
)


def _status_text(report: RunReport) -> str:
    return report.status.value + (f" ({report.abort_reason})" if report.abort_reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Pings the dead man's switch of one target."""

    target: str
    read_url: Callable[[], str]
    """Reads the URL, a secret, for each ping."""
    ask: Callable[[Request, float], Awaitable[CallResult]]
    """Sends a request within the given seconds, in at most two attempts. Raises ValueError for an unusable URL."""
    new_rid: Callable[[], str]
    timeout_s: float = PING_TIMEOUT_S
    """Wall-clock seconds (> 0) for each ping; after a signal at most `SIGNAL_PING_TIMEOUT_S`."""

    async def send_around_run(self, run: Callable[[Callable[[], None]], Awaitable[RunReport]]) -> RunReport:
        """Executes `run`, which calls its argument once it has begun, and sends its pings; none if it is skipped.

        A run that was left to be shared goes on: `send_end` sends its last ping.
        """
        pings = _Pings(self, self.new_rid())
        try:
            report = await run(pings.start)
        except (LeaseHeldError, RunAlreadyExecutedError):
            raise
        except RunGivenBackError:
            await pings.settle()  # the worker that begins the run again sends its end
            raise
        except BaseException as error:
            await pings.end(error)
            raise
        await (pings.settle() if report.status is RunStatus.RUNNING else pings.end(report))
        return report

    async def send_end(self, rid: str, report: RunReport) -> None:
        """Sends the ping for the end of a run that was shared; `rid` is that of its start."""
        ping, reason = ping_for(report)
        text = f"{self.target}: {reason}\nduration {report.duration_s:.1f} s"
        await self.send(ping, rid, text, timeout_s=self.timeout_s)

    async def send(self, ping: Ping, rid: str, text: str, *, timeout_s: float) -> None:
        """Sends one ping; a failure is logged."""
        try:
            request = Request(
                method="POST",
                path=ping_url(self.read_url(), ping, rid),
                template="heartbeat",
                operation=Operation.READ,  # a repeated ping is harmless
                headers={"content-type": "text/plain; charset=utf-8"},
                body=text.encode(),
            )
            async with asyncio.timeout(timeout_s):
                result = await self.ask(request, timeout_s)
            error = result.error
            if error is None or (ping is Ping.START and error.status == _NOT_FOUND):
                if error is not None:
                    structlog.get_logger().debug("heartbeat_has_no_start", integration=self.target)
                return
            error_text = (
                f"HTTP {error.status}" if error.status is not None else f"no answer ({error.network or 'late'})"
            )
        except TimeoutError:
            error_text = "no answer (timeout)"
        except MonitorError as error:
            error_text = f"its URL can't be read: {error}"
        except Exception as error:  # noqa: BLE001  # it must not fail the run, and its text may contain the URL
            error_text = type(error).__name__
        structlog.get_logger().warning(
            "heartbeat_not_sent", integration=self.target, ping=ping.name.lower(), reason=error_text
        )


class _Pings:
    """The pings of one run, in order."""

    def __init__(self, heartbeat: Heartbeat, rid: str) -> None:
        self._heartbeat, self._rid, self._started_s = heartbeat, rid, time.monotonic()
        self._start_ping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sends the start ping in the background."""
        text = f"{self._heartbeat.target}: the run began"
        self._start_ping = asyncio.ensure_future(
            self._heartbeat.send(Ping.START, self._rid, text, timeout_s=self._heartbeat.timeout_s)
        )

    async def settle(self) -> None:
        """Waits for the start ping; it takes no longer than its timeout."""
        if self._start_ping is not None:
            await self._start_ping

    async def end(self, outcome: RunReport | BaseException) -> None:
        """Sends the end ping, after the start ping has been sent or half of the timeout is over."""
        ping, reason = ping_for(outcome)
        timeout_s = (
            min(self._heartbeat.timeout_s, SIGNAL_PING_TIMEOUT_S)
            if _is_interrupted(outcome)
            else self._heartbeat.timeout_s
        )
        began_s = time.monotonic()
        if self._start_ping is not None:
            # a start ping after the end ping would make the run look unfinished
            await asyncio.wait((self._start_ping,), timeout=timeout_s / 2)
            self._start_ping.cancel()
            with suppress(asyncio.CancelledError):
                await self._start_ping
        took_s = began_s - self._started_s
        text = f"{self._heartbeat.target}: {reason}\nduration {took_s:.1f} s"
        await self._heartbeat.send(ping, self._rid, text, timeout_s=timeout_s - (time.monotonic() - began_s))


def _is_interrupted(outcome: RunReport | BaseException) -> bool:
    """Whether a signal ended the run, so that the process ends soon."""
    if isinstance(outcome, RunReport):
        return outcome.status is RunStatus.PARTIAL and outcome.abort_reason == Reason.INTERRUPTED
    return isinstance(outcome, asyncio.CancelledError)
