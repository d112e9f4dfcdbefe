"""Waits and single looks, as a CI log shows them and as JSON values. No text of the API but its codes and words."""

from collections import Counter
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from monitor.client.retry import is_transient
from monitor.model import Cause, ItemState
from monitor.model.http import BREAKER_OPEN, ApiError
from monitor.notifications.texts import describe_cause, what_to_check
from monitor.reports.formatting import align, cut_list, iso, plural, wrap_lines
from monitor.waits.report import ItemReport, WaitReport
from monitor.waits.rules import Tally, WaitResult
from monitor.waits.store import StoredWait, WaitSummary


def wait_text(report: WaitReport) -> str:
    """How a wait ended, every item that is not completed by name and reason, and what to check if it can't be cured."""
    lines = [f"{report.target}: {_ending(report)}"]
    if report.unfinished:
        rows = [(each.column, each.item_id, _detail(each)) for each in report.unfinished]
        lines.append(align(("STATE", "ITEM", "DETAIL"), rows))
    checks = _checks(report)
    if checks:
        lines.append("Check:")
        lines += [line for each in checks for line in wrap_lines(f"- {each}", indent=2)]
    return "\n".join(lines)


def _ending(report: WaitReport) -> str:
    counts, took = report.counts, format_seconds(report.duration_s)
    done = f"{counts.completed} of {counts.asked} completed"
    rest = _parts(counts)
    said = f"{done}; {rest}" if rest else done
    match report.result:
        case WaitResult.COMPLETED:
            one = "the item is" if counts.asked == 1 else f"all {counts.asked} items are"
            return f"{one} completed, after {took}."
        case WaitResult.FAILED:
            return f"{said}, after {took}."
        case WaitResult.TIMED_OUT:
            last = f" The last error: {describe_cause(report.cause)}." if report.cause else ""
            return f"time ran out ({format_seconds(report.timeout.total_seconds())}): {said}.{last}"
        case WaitResult.STOPPED:
            return f"stopped after {took}, since waiting does not help: {_why_stopped(report)}. {said}."
        case WaitResult.INTERRUPTED | WaitResult.KILLED | WaitResult.CRASHED:
            return f"interrupted after {took}: {said}."


def _why_stopped(report: WaitReport) -> str:
    errors = [each.error for each in report.items if each.error is not None]
    hints = [error.retry_after for error in errors if error.retry_after is not None and is_transient(error)]
    if hints and report.cause in {Cause.OUTAGE, Cause.RATE_LIMITED}:
        asks = "the API asks" if report.requests else "nothing was sent, as an earlier answer of the API asks"
        return f"{asks} for a retry in {format_seconds(max(hints).total_seconds())}, after the timeout"
    return describe_cause(report.cause) if report.cause else "no item can be asked about"


def _checks(report: WaitReport) -> tuple[str, ...]:
    if report.result is WaitResult.STOPPED and report.cause is not None:
        return what_to_check(report.cause, accepted=report.counts.settled > 0)
    if report.result is WaitResult.TIMED_OUT:
        return what_to_check(report.cause or Cause.POLLING_TIMEOUTS)
    return ()


def _parts(counts: Tally) -> str:
    """`1 failed, 2 pending`: all but the completed ones."""
    parts = ((getattr(counts, name), name) for name in ("failed", "missing", "invalid", "pending", "unknown"))
    return ", ".join(f"{count} {name}" for count, name in parts if count)


def progress_text(target: str, counts: Tally, *, elapsed_s: float, timeout: timedelta, error: ApiError | None) -> str:
    """One line while a wait goes on."""
    rest = _parts(counts)
    done = f"{counts.completed} of {counts.asked} completed" + (f"; {rest}" if rest else "")
    now = f"{format_seconds(round(elapsed_s))} of {format_seconds(timeout.total_seconds())}"
    last = f"; the last error was {error_words(error)}" if error is not None and counts.unknown else ""
    return f"waiting for {target} ({now}): {done}{last}"


def format_seconds(seconds: float) -> str:
    """`850ms`, `6.2s`, `1m50s`, `2h5m`: as exact as a reader needs."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (0 if hours else rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def _detail(item: ItemReport) -> str:
    """The provider's word about an item, why it failed, and what came instead of an answer since."""
    since = f", then {error_words(item.error)}" if item.cause is not None and item.error is not None else ""
    match item.state:
        case ItemState.UNKNOWN:
            return error_words(item.error) if item.error is not None else "no answer yet"
        case ItemState.NOT_FOUND:
            found = "not found" if item.settled else "not found yet"
            words = f" ({error_words(item.error)})" if item.error is not None and not since else ""
            return f"{found}{words}{since}"
        case ItemState.INVALID:
            return error_words(item.error) if item.error is not None else "malformed, never sent"
        case ItemState.FAILED if item.failure_reason:
            return f"{item.stage}: {item.failure_reason}"
        case ItemState.PENDING if not item.recognised:
            return f"{item.stage} (a status nobody has described: add it to `statuses`){since}"
        case _:
            return f"{item.stage}{since}"


def error_words(error: ApiError) -> str:
    """`HTTP 503 SERVICE_UNAVAILABLE`, `timeout`, `HTTP 404`: status, code or network fault, and no text of the API."""
    if error.status is not None:
        code = f" {error.code}" if error.code and len(error.code) <= _MAX_CODE and " " not in error.code else ""
        where = " from the token endpoint" if error.from_token_endpoint else ""
        by_body = " (by its body)" if error.status < HTTPStatus.MULTIPLE_CHOICES else ""
        return f"HTTP {error.status}{code}{where}{by_body}"
    if error.network is not None:
        return error.network.value
    if error.is_local(BREAKER_OPEN):
        return "the service is down"
    return (error.code or "no answer").replace("_", " ")


_MAX_CODE = 60


def wait_json(report: WaitReport) -> dict[str, Any]:
    """The same as JSON values, with every item."""
    counts = report.counts
    return {
        "target": report.target,
        "wait_id": report.wait_id,
        "result": report.result.value,
        "cause": report.cause.value if report.cause else None,
        "started_at": iso(report.started_at),
        "finished_at": iso(report.finished_at),
        "duration_s": report.duration_s,
        "timeout_s": report.timeout.total_seconds(),
        "requests": report.requests,
        **counts_json(counts),
        **cut_list(
            "items", [{**item_json(each), "counts_as": each.column, "settled": each.settled} for each in report.items]
        ),
    }


def counts_json(counts: Tally) -> dict[str, int]:
    """The counts as JSON values."""
    names = ("asked", "completed", "failed", "missing", "invalid", "pending", "unknown")
    return {name: getattr(counts, name) for name in names}


def item_json(item: ItemReport) -> dict[str, Any]:
    """One item as JSON values; without the API's texts, which may quote a document."""
    error = item.error
    return {
        "item_id": item.item_id,
        "state": item.state.value,
        "stage": item.stage,
        "recognised": item.recognised,
        "failure_reason": item.failure_reason,
        "cause": item.cause.value if item.cause else None,
        "http_status": error.status if error else None,
        "code": error.code if error else None,
        "network": error.network.value if error and error.network else None,
        "request_id": error.request_id if error else None,
        "answered_at": iso(item.answered_at),
        "looks": item.looks,
    }


def status_text(report: WaitReport) -> str:
    """A line per item, in the order of the question, and how many there are of each state."""
    rows = [(each.item_id, each.state.label, _detail(each)) for each in report.items]
    counted = Counter(each.state for each in report.items)
    summary = ", ".join(f"{counted[state]} {state.label}" for state in ItemState if counted[state])
    return "\n".join([align(("ITEM", "STATE", "DETAIL"), rows), f"{plural(len(rows), 'item')}: {summary}"])


def status_json(report: WaitReport) -> dict[str, Any]:
    """The same as JSON values."""
    counted = Counter(each.state for each in report.items)
    return {
        "target": report.target,
        **{state.value: counted[state] for state in ItemState},
        "requests": report.requests,
        **cut_list("items", [item_json(each) for each in report.items]),
    }


def summary_line(summary: WaitSummary) -> str:
    """`Waits: 12, of which 9 completed, 3 timed out; 40s on average, 10m the longest`."""
    parts = ", ".join(f"{count} {result.value.replace('_', ' ')}" for result, count in summary.by_result.items())
    times = ""
    if summary.mean_s is not None and summary.longest_s is not None:
        times = f"; {format_seconds(summary.mean_s)} on average, {format_seconds(summary.longest_s)} the longest"
    return f"Waits: {summary.total} ({parts}){times}"


def summary_json(summary: WaitSummary | None) -> dict[str, Any] | None:
    """The same as JSON values; None without a wait."""
    if summary is None:
        return None
    return {
        "total": summary.total,
        "by_result": {result.value: summary.by_result.get(result, 0) for result in WaitResult},
        "asked": summary.asked,
        "completed": summary.completed,
        "mean_s": None if summary.mean_s is None else round(summary.mean_s, 3),
        "longest_s": summary.longest_s,
        "last": _stored_json(summary.last) if summary.last else None,
    }


def _stored_json(wait: StoredWait) -> dict[str, Any]:
    return {
        "wait_id": wait.id,
        "result": wait.result.value,
        "cause": wait.cause.value if wait.cause else None,
        "started_at": iso(wait.started_at),
        "finished_at": iso(wait.finished_at),
        "duration_s": wait.duration_s,
        "timeout_s": wait.timeout_s,
        "asked": wait.asked,
        "completed": wait.completed,
        "failed": wait.failed,
        "missing": wait.missing,
        "invalid": wait.invalid,
        "pending": wait.pending,
        "unknown": wait.unknown,
    }
