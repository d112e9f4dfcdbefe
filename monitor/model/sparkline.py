"""Sparklines: a series of numbers as one mark each, in text. Pure."""

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.:-=+*#"
"""For encodings without block characters."""


def sparkline(
    values: Sequence[float | None], *, blocks: str = BLOCKS, low: float | None = None, high: float | None = None
) -> str:
    """One mark per finite value, oldest first (None: a gap). Only values up to `low` get the lowest mark.

    The scale goes from `low` to `high`, by default from the smallest to the largest value. If it has no length, all
    values get the highest mark, or the lowest if they are zero.
    """
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    bottom = min(known) if low is None else min(low, *known)
    top = max(known) if high is None else max(high, *known)
    steps = len(blocks) - 1

    def mark(value: float) -> str:
        if top <= bottom:
            return blocks[0 if value <= 0 else -1]
        if value <= bottom:
            return blocks[0]
        # at least 1: the ratio may underflow to zero
        return blocks[max(1, min(steps, math.ceil((value - bottom) / (top - bottom) * steps)))]

    return "".join(" " if value is None else mark(value) for value in values)
