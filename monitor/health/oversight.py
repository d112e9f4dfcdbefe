"""What a run shows about the monitor itself, as evidence: too little found out, an emptied sync log, missed runs. Pure.

What the API did is `evidence`'s business.
"""

from collections.abc import Mapping

from monitor.model import Cause, Evidence, Reason, RunStatus, SyncReport

__all__ = ["TOO_MUCH_UNKNOWN", "UNEXPLAINED", "coverage", "emptied", "missed"]

TOO_MUCH_UNKNOWN = 0.2
"""Over this share of the tracked items unknown is too little coverage."""

UNEXPLAINED = (Reason.DEADLINE, Reason.INTERRUPTED, Reason.NOT_ASKED)
"""Why an item may be unknown without any request cause behind it."""


def coverage(status: RunStatus, *, total: int, unknown: Mapping[Reason, int]) -> Evidence | None:
    """Evidence of `coverage`, or None.

    Args:
        status: how the run ended. What aborted it explains what it left unknown.
        total: tracked items (≥ 0).
        unknown: how many of them are unknown, by reason.
    """
    unasked = {reason.value: unknown.get(reason, 0) for reason in UNEXPLAINED if unknown.get(reason, 0)}
    count = sum(unasked.values())
    if status is RunStatus.ABORTED or count <= TOO_MUCH_UNKNOWN * total:
        return None
    return Evidence(cause=Cause.COVERAGE, count=count, breakdown=unasked)


def emptied(read: SyncReport, *, tracked_before: bool) -> Evidence | None:
    """Evidence of `sync_log_empty`, or None: a log that never held an id is not filled yet.

    Args:
        read: what reading the log brought.
        tracked_before: whether the target has, or ever had, items.
    """
    if read.tracked or not tracked_before:
        return None
    unusable = {"rows without a usable id": read.read} if read.read else {}
    return Evidence(cause=Cause.SYNC_LOG_EMPTY, count=read.removed, breakdown=unusable)


def missed(runs: int) -> Evidence | None:
    """Evidence of `run_missed` when so many runs (≥ 0) did not start between two that did, or None."""
    return Evidence(cause=Cause.RUN_MISSED, count=runs, breakdown={"missed": runs}) if runs else None
