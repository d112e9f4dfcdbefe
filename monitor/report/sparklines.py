"""A series of numbers as one line of marks, low to high. Pure."""

import math
from collections.abc import Sequence

__all__ = ["ASCII_MARKS", "BLOCKS", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_MARKS = "_.:-=+*#"
"""For streams that can't carry the blocks."""


def sparkline(values: Sequence[float | None], *, marks: str = BLOCKS, from_zero: bool = False) -> str:
    """One mark per value: the smallest gets the lowest mark, the largest the highest, and a larger one never a lower.

    Whatever lies above the smallest is seen to be so, however little. Where all are equal there is nothing to compare:
    they get the highest mark, or the lowest if they are zero.

    Args:
        values: finite numbers, oldest first; None leaves a gap.
        marks: from the lowest to the highest (≥ 2).
        from_zero: whether the scale begins at zero, so that sizes can be compared; else at the smallest value.
    """
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    low, high = min(known), max(known)
    if from_zero:
        low = min(0, low)
    steps = len(marks) - 1

    def mark(value: float) -> str:
        if high <= low:
            return marks[0 if value <= 0 else -1]
        if value <= low:
            return marks[0]
        # a share may be too small for a float: it is seen all the same
        return marks[max(1, min(steps, math.ceil((value - low) / (high - low) * steps)))]

    return "".join(" " if value is None else mark(value) for value in values)
