"""Measurements in turns, and what counts of them: medians, and ratios within a round."""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

__all__ = ["in_turns", "middle", "ratio", "spread"]

_T = TypeVar("_T")


def in_turns(works: Mapping[str, Callable[[], _T]], rounds: int, *, title: str) -> dict[str, list[_T]]:
    """The results of each work, by round. Every second round goes backwards, so that drift favours none."""
    results: dict[str, list[_T]] = {name: [] for name in works}
    for number in range(rounds):
        names = list(works) if number % 2 == 0 else list(reversed(works))
        for name in names:
            began_s = time.monotonic()
            results[name].append(works[name]())
            took_s = time.monotonic() - began_s
            print(f"{title}, round {number + 1} of {rounds}: {name}, {took_s:.1f} s", file=sys.stderr, flush=True)
    return results


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of ours ÷ the other's, each of one round."""
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))


def spread(ours: Sequence[float], others: Sequence[float]) -> str:
    """The least and the largest ratio of a round, as text."""
    ratios = sorted(a / b for a, b in zip(ours, others, strict=True))
    return f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
