"""The exit codes of all commands, and which one a run ends with. Pure.

Of several targets the first of 2, 3, 4, 1, 5, 0 counts. A signal ends a command with 128 plus its number.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.runs.report import RunReport

MATCHED = 1
"""`--fail-on` matched."""
USAGE = 2
"""The configuration or the usage is wrong."""
COULD_NOT_RUN = 3
"""Also: the database has another schema, and a problem that `doctor` found."""
CUT_SHORT = UNREACHABLE = 4
"""The run is partial or aborted, or no channel could be reached."""
SKIPPED = 5
"""Another process is doing the same."""
OUTPUT_LOST = 74
"""The command succeeded, but its output could not be written: `EX_IOERR` in `sysexits.h`."""
PAUSE = 75
"""The gate is closed: in `sysexits.h` a temporary failure, so try again later."""

_ORDER = (USAGE, COULD_NOT_RUN, CUT_SHORT, MATCHED, SKIPPED, 0)


class FailOn(StrEnum):
    """What ends `check` with exit code 1 if asked for."""

    FAILED = "failed"
    NOT_FOUND = "not_found"
    INVALID = "invalid"
    PENDING = "pending"
    STUCK = "stuck"
    UNKNOWN = "unknown"
    INCIDENT = "incident"


def exit_code_of(report: "RunReport", fail_on: frozenset[FailOn]) -> int:
    """The exit code of one run."""
    from monitor.model import RunStatus

    if report.snapshot is None:
        return COULD_NOT_RUN
    if report.status is not RunStatus.COMPLETE:
        return CUT_SHORT
    snapshot, incidents = report.snapshot, len(report.open_incidents)
    # the other words are names of columns of the snapshot
    found = (incidents if each is FailOn.INCIDENT else getattr(snapshot, each.value) for each in fail_on)
    return MATCHED if any(found) else 0


def combine_exit_codes(codes: Iterable[int]) -> int:
    """The exit code of several targets together."""
    return min(codes, key=_ORDER.index, default=0)
