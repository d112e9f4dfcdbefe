"""What is wrong with rows of a sync log, in the same words wherever it is shown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.model import SyncReport

_HINTS = {"a JSON object": "; id_path names the id in it", "a JSON array": "; id_path names the id in it"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """Rows with one problem."""

    count: int
    what: str
    """Behind the number of rows, such as `with a blank id`."""
    samples: Sequence[str] = ()
    harmless: bool = False
    """Also: a sample may stand for several rows."""


def row_problems(counts: SyncReport) -> list[RowProblem]:
    """The problems of a log's rows, each with its number of rows (> 0)."""
    unusable = "with an id that can't be used"
    if counts.unusable_kind is not None:
        unusable += f" (such as {counts.unusable_kind}{_HINTS.get(counts.unusable_kind, '')})"
    problems = [
        RowProblem(count=counts.null, what="without an id"),
        RowProblem(count=counts.blank, what="with a blank id"),
        RowProblem(count=counts.duplicate, what="with a duplicate id", samples=counts.duplicate_ids, harmless=True),
        RowProblem(count=counts.unusable, what=unusable, samples=counts.unusable_ids),
        RowProblem(
            count=counts.without_params,
            what="without a path parameter (param_columns), not asked about",
            samples=counts.without_params_ids,
        ),
        *time_problems(counts),
    ]
    return [problem for problem in problems if problem.count]


def time_problems(counts: SyncReport) -> list[RowProblem]:
    """Upload times that are not used, those that are in the future and those that can't be read."""
    return [
        RowProblem(
            count=counts.future, what="with an upload time in the future (not used)", samples=counts.future_times
        ),
        RowProblem(
            count=counts.unreadable,
            what="with an upload time that can't be read (not used)",
            samples=counts.unreadable_times,
        ),
    ]
