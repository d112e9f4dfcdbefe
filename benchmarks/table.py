"""A table of figures: measured, goal, and whether the goal was met."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Row", "print_footer", "print_table"]

_HEADS = ("figure", "measured", "goal", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure; without a goal it is for comparison."""

    figure: str
    measured: str
    goal: str = ""
    met: bool | None = None
    """None: there is no goal, or it can't be judged yet; `measured` then says why."""

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row as text."""
        verdict = "" if self.met is None else "met" if self.met else "MISSED"
        return self.figure, self.measured, self.goal, verdict


def print_table(rows: Sequence[Row]) -> None:
    """Prints the rows, each column as wide as its widest cell."""
    cells = [_HEADS, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_footer(before: str, began_s: float) -> None:
    """Prints what the figures were measured with. `began_s` is monotonic."""
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    print(f"before: {before}; medians, ratios within a round; {time.monotonic() - began_s:.0f} s, {load}")
