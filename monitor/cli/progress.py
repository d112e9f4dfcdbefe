"""A progress bar on a terminal, one line per target; nothing anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from monitor.runs.progress import NoProgress, Progress


@contextmanager
def progress_bars(*, wanted: bool) -> Iterator[Callable[[str], Progress]]:
    """Gives a maker of progress lines, one per target name; they disappear at the end.

    Args:
        wanted: False for output that somebody parses; the bar also needs a terminal on stderr.
    """
    if not (wanted and sys.stderr.isatty()):
        yield lambda _: NoProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as display:
        yield lambda name: _Line(display.add_task, display.update, name)


class _Line:
    """One target's line."""

    def __init__(self, add: Callable[..., object], update: Callable[..., None], name: str) -> None:
        self._update, self._task = update, add(name, total=None)

    def begin(self, total: int) -> None:
        self._update(self._task, total=total)

    def advance(self) -> None:
        self._update(self._task, advance=1)
