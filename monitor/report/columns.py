"""Plain columns for terminals and pipes: no boxes, no colour, nothing cut off; and times, for people and as JSON."""

from collections.abc import Sequence
from datetime import datetime

__all__ = ["align", "iso", "moment"]


def align(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Sets rows out in columns as wide as their widest cell; numbers to the right, the rest to the left.

    Args:
        heading: one word per column.
        rows: cells; None becomes a dash.
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[n]) for row in cells), 0) for n, name in enumerate(heading)]
    right = [bool(rows) and all(isinstance(row[n], int | float | None) for row in rows) for n in range(len(heading))]
    lines = [heading, *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def moment(at: datetime | None) -> str:
    """A time in UTC to the second, or a dash."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "-"


def iso(at: datetime | None) -> str | None:
    """A time as JSON has it: ISO 8601, or null."""
    return at.isoformat() if at else None
