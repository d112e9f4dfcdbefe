"""Which exit code a command ends with. Pure.

0 ran and stored; 1 `--fail-on` matched; 2 configuration or usage; 3 could not run; 4 partial, aborted, or no channel
could be reached; 5 skipped. Of several: the first of 2, 3, 4, 1, 5, 0.
"""

from collections.abc import Iterable
from enum import StrEnum

from monitor.model import RunStatus
from monitor.runs.report import RunReport

MATCHED, USAGE, COULD_NOT_RUN, CUT_SHORT, SKIPPED = 1, 2, 3, 4, 5

_ORDER = (USAGE, COULD_NOT_RUN, CUT_SHORT, MATCHED, SKIPPED, 0)


class FailOn(StrEnum):
    """What a caller wants to be told by exit code 1."""

    FAILED = "failed"
    STUCK = "stuck"
    UNKNOWN = "unknown"
    INCIDENT = "incident"


def exit_code_of(report: RunReport, fail_on: frozenset[FailOn]) -> int:
    """The exit code of one run."""
    if report.snapshot is None:
        return COULD_NOT_RUN
    if report.status is not RunStatus.COMPLETE:
        return CUT_SHORT
    found = {
        FailOn.FAILED: report.snapshot.failed,
        FailOn.STUCK: report.snapshot.stuck,
        FailOn.UNKNOWN: report.snapshot.unknown,
        FailOn.INCIDENT: len(report.open_incidents),
    }
    return MATCHED if any(found[wanted] for wanted in fail_on) else 0


def combine_exit_codes(codes: Iterable[int]) -> int:
    """The exit code of several targets together."""
    return min(codes, key=_ORDER.index, default=0)
