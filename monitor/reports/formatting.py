"""Numbers, shares, times and long names as people read them in a narrow column. Pure."""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from textwrap import wrap


def align(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Sets rows out in columns as wide as their widest cell; numbers to the right, the rest to the left.

    Args:
        heading: one word per column.
        rows: cells; None becomes a dash.
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[n]) for row in cells), 0) for n, name in enumerate(heading)]
    right_aligned = [
        bool(rows) and all(isinstance(row[n], int | float | None) for row in rows) for n in range(len(heading))
    ]
    lines = [heading, *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if align_right else cell.ljust(width)
            for cell, width, align_right in zip(line, widths, right_aligned, strict=True)
        ).rstrip()
        for line in lines
    )


def format_time(at: datetime | None) -> str:
    """A time in UTC to the second, or a dash."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "-"


def iso(at: datetime | None) -> str | None:
    """A time as JSON has it: ISO 8601, or null."""
    return at.isoformat() if at else None


WIDTH = 80
"""Characters of a line."""
_MILLION = 1_000_000


def format_count(number: float) -> str:
    """A count in at most six characters: `999999`, `1.2M`, `350M`."""
    if number < _MILLION:
        return str(round(number))
    for size, name in ((_MILLION, "M"), (1000 * _MILLION, "G")):
        if number < 1000 * size:
            return f"{number / size:.1f}{name}" if number < 100 * size else f"{number / size:.0f}{name}"
    return f"{number:.0e}"


def format_share(part: float) -> str:
    """A share from 0 to 1 in percent, to one place and never rounded up to all or down to nothing: `99.9%`."""
    percent = round(part * 100, 1)
    if percent == 100 and part < 1:
        return "99.9%"
    if percent == 0 and part > 0:
        return "0.1%"
    return f"{percent:.1f}%" if percent % 1 else f"{percent:.0f}%"


def format_latency(ms: float) -> str:
    """Milliseconds as `80 ms` or `1.2 s`."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """`1 run`, `2 runs`; `nouns` where an s does not do."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"


def shorten_middle(text: str, width: int, *, ellipsis: str = "…") -> str:
    """The text without its middle where it is longer than `width` (≥ 5): ids differ at both ends."""
    if len(text) <= width:
        return text
    kept = width - len(ellipsis)
    tail = kept // 2
    return text[: kept - tail] + ellipsis + text[len(text) - tail :]


def right_aligned(name: str, cells: Sequence[str]) -> tuple[str, list[str]]:
    """A column, heading and cells, with everything at its right edge."""
    width = max(len(name), *(len(cell) for cell in cells), 0)
    return name.rjust(width), [cell.rjust(width) for cell in cells]


def wrap_lines(text: str, *, indent: int, hang: int = 2) -> Iterator[str]:
    """A sentence as lines of at most 80 characters; all but the first stand `hang` further in than `indent`."""
    first, rest = " " * indent, " " * (indent + hang)
    yield from wrap(text, width=WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


MAX_SPANS = 36
"""The most spans that a period is cut into: what a line of 80 characters has room for."""

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_SPAN_LENGTHS = (
    *(n * _MINUTE for n in (2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 4, 6, 12)),
    *(n * _DAY for n in (1, 2, 3, 5, 7, 10, 14, 30, 60, 90, 120)),
)


def span_length(period: timedelta) -> timedelta:
    """How long the spans of a period are: the shortest length that makes at most `MAX_SPANS` of them."""
    return next((each for each in _SPAN_LENGTHS if each * MAX_SPANS >= period), period / MAX_SPANS)


def spans(start: datetime, end: datetime) -> list[datetime]:
    """Where the spans of a period begin and end, oldest first: equally long, but for the first perhaps.

    Args:
        start: aware.
        end: aware, later than `start`.
    """
    step = span_length(end - start)
    bounds = [end]
    while bounds[-1] - step > start:
        bounds.append(bounds[-1] - step)
    return [start, *reversed(bounds)]


BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.:-=+*#"
"""For streams that can't carry the blocks."""


def sparkline(values: Sequence[float | None], *, blocks: str = BLOCKS, from_zero: bool = False) -> str:
    """One mark per value: the smallest gets the lowest mark, the largest the highest, and a larger one never a lower.

    Whatever lies above the smallest is seen to be so, however little. Where all are equal there is nothing to compare:
    they get the highest mark, or the lowest if they are zero.

    Args:
        values: finite numbers, oldest first; None leaves a gap.
        blocks: from the lowest to the highest (≥ 2).
        from_zero: whether the scale begins at zero, so that sizes can be compared; else at the smallest value.
    """
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    low, high = min(known), max(known)
    if from_zero:
        low = min(0, low)
    steps = len(blocks) - 1

    def mark(value: float) -> str:
        if high <= low:
            return blocks[0 if value <= 0 else -1]
        if value <= low:
            return blocks[0]
        # a share may be too small for a float: it is seen all the same
        return blocks[max(1, min(steps, math.ceil((value - low) / (high - low) * steps)))]

    return "".join(" " if value is None else mark(value) for value in values)
