"""A canary as text and as JSON: its steps, what failed, and what became of its document. Pure."""

from collections.abc import Sequence
from typing import Any

from monitor.model import Cause
from monitor.model.durations import format_duration
from monitor.notifications.texts import what_to_check
from monitor.reports.formatting import format_time, iso, plural, wrap_lines
from monitor.runs.canary.model import CanaryReport, CanaryStatus, CleanUp, Step
from monitor.runs.canary.store import CanarySummary

STEP_NAMES = {Step.UPLOAD: "upload", Step.INDEX: "index", Step.RETRIEVE: "retrieve", Step.CLEAN_UP: "clean up"}
_CLEAN_UP = {
    CleanUp.PENDING: "may still exist: the next canary of this target looks for it and deletes it",
    CleanUp.DONE: "was deleted, and the API no longer has it",
    CleanUp.NOTHING_LEFT: "was never uploaded",
    CleanUp.CANNOT_FIND: "may exist: the upload was not answered, and this API can't be asked for it by name",
}
_CHECKS = {
    Step.UPLOAD: "the upload endpoint: can your pipeline upload now? Other incidents of this target",
    Step.INDEX: "async job volume at the provider, and its status page; documents that are stuck",
    Step.RETRIEVE: "the provider's search: documents that are indexed may not be found by your users",
    Step.CLEAN_UP: "whether these credentials may delete; if not, delete the document by hand",
}
"""What to check if the answer itself does not say what is wrong."""
_TOLD_BY_ANSWER = frozenset(
    {Cause.UNAUTHORIZED, Cause.FORBIDDEN, Cause.SPENDING_LIMIT, Cause.RATE_LIMITED, Cause.WRONG_SCOPE, Cause.OUTAGE}
)
_WIDTH = 10


def canary_json(report: CanaryReport) -> dict[str, Any]:
    """The canary as JSON values."""
    failure = report.failure
    return {
        "canary_id": report.id,
        "target": report.target,
        "status": report.status.value,
        "slow": report.slow,
        "slow_after_s": report.slow_after.total_seconds(),
        "started_at": iso(report.started_at),
        "finished_at": iso(report.finished_at),
        "name": report.document.name,
        "item_id": report.document.item_id,
        "stage": report.stage,
        "steps": {step.value: report.durations_s.get(step) for step in Step},
        "failed_step": failure and failure.step.value,
        "code": failure and failure.code,
        "reason": failure and failure.reason,
        "http_status": failure and failure.http_status,
        "request_id": failure and failure.request_id,
        "cause": failure and failure.cause and failure.cause.value,
        "clean_up": report.clean_up.value,
        "leftovers_removed": report.leftovers_removed,
        "leftovers": report.leftovers,
    }


def canary_text(report: CanaryReport) -> str:
    """The canary for a person: the verdict, a line per step, the document, and what to check."""
    lines = [f"Canary: {_verdict(report)}"]
    lines += [_line(STEP_NAMES[step], text) for step in Step if (text := _step_text(report, step))]
    known = f" ({report.document.item_id})" if report.document.item_id else ""
    lines.append(_line("document", f"{report.document.name}{known} {_CLEAN_UP[report.clean_up]}"))
    if report.leftovers_removed:
        lines.append(_line("removed", f"{plural(report.leftovers_removed, 'document')} of earlier canaries"))
    if report.leftovers:
        left = f"{plural(report.leftovers, 'document')} of earlier canaries may still exist; the next one looks again"
        lines.append(_line("left", left))
    lines += [_line("check", text) for text in _checks(report)]
    return "\n".join(lines)


def _line(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}{text}"


def _verdict(report: CanaryReport) -> str:
    match report.status:
        case CanaryStatus.SUCCEEDED if report.slow:
            indexed = seconds_text(report.durations_s.get(Step.INDEX, 0.0))
            limit = format_duration(report.slow_after)
            return f"{report.target} is slow: indexing took {indexed}, and slow_after is {limit}"
        case CanaryStatus.SUCCEEDED:
            return f"{report.target} works: a document was uploaded, indexed, retrieved and deleted"
        case CanaryStatus.FAILED if report.failure is not None:
            return f"{report.target} failed at {STEP_NAMES[report.failure.step]}"
        case _:
            return f"{report.target} was interrupted; it says nothing about the API"


def _step_text(report: CanaryReport, step: Step) -> str:
    failure = report.failure
    if failure is not None and failure.step is step:
        request_id = f"; request id {failure.request_id}" if failure.request_id else ""
        return f"failed ({failure.code}): {failure.reason}{request_id}"
    if step in report.durations_s:
        return f"ok in {seconds_text(report.durations_s[step])}"
    return "" if step is Step.CLEAN_UP else "not tried"


def _checks(report: CanaryReport) -> Sequence[str]:
    if report.failure is None:
        return ()
    cause, of_step = report.failure.cause, _CHECKS[report.failure.step]
    if cause is None or cause not in _TOLD_BY_ANSWER:
        return (of_step,)
    told = [f"{cause.value}: {text}" for text in what_to_check(cause)]
    return [of_step, *told] if report.failure.step is Step.CLEAN_UP else told


def canary_lines(summary: CanarySummary | None) -> list[str]:
    """The canaries of a period, for a report."""
    if summary is None:
        return []
    if not summary.total:
        last = format_time(summary.last.ended_at) if summary.last is not None else "-"
        return list(wrap_lines(f"Canaries: none in this period; the last ended {last} UTC", indent=2))
    parts = [str(summary.total), f"{summary.succeeded} worked"]
    parts += [f"{number} failed at {STEP_NAMES[Step(step)]}" for step, number in summary.failed_steps.items()]
    parts += [f"{summary.slow} slow"] if summary.slow else []
    if summary.index_p50_s is not None and summary.index_p95_s is not None:
        half, most = seconds_text(summary.index_p50_s), seconds_text(summary.index_p95_s)
        parts.append(f"indexed: p50 {half}, p95 {most}")
    lines = list(wrap_lines(f"Canaries: {', '.join(parts)}", indent=2))
    if summary.last_failure is not None:
        lines += wrap_lines(f"Last failure: {summary.last_failure}", indent=4)
    if summary.last is not None and summary.last.leftovers:
        left = f"{plural(summary.last.leftovers, 'document')} of canaries may still exist"
        lines += wrap_lines(left, indent=4)
    return lines


def seconds_text(seconds: float) -> str:
    """Seconds for a person: 0.42 s, 12.3 s, 6m 5s."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60}m"
