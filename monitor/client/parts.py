"""Divides the limits of one credential among the processes that use it. Pure.

A process's *part* (above 0, at most 1) applies to the configured rate, the stated and the learned limit, and to
concurrency. Each process works out its own from what the others have told. It takes no more than they have given back,
so all parts together are hardly ever more than one: a process that joins begins with a little, and has all that it is
entitled to after two exchanges.
"""

import math
from collections.abc import Sequence

import msgspec

_LEAST = 1 / 4
"""Of what a process is entitled to: what it takes although others still have it."""
_LOST = 1 / 16
_SAME = 1e-6


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """What another live process has told."""

    weight: int
    """Runs and shares that use the credential there (≥ 0)."""
    part: float
    """What it takes now (0 to 1)."""


def next_part(*, weight: int, part: float, others: Sequence[Claimed]) -> float:
    """The part of a process with this weight (≥ 1) that takes `part` now (0: none yet)."""
    entitled = weight / (weight + sum(other.weight for other in others))
    free = 1.0 - sum(other.part for other in others)
    found = max(min(entitled, free), entitled * _LEAST)
    # rounding must not change it: limits that were learned with another part are worth less
    return part if math.isclose(found, part, rel_tol=_SAME) else found


def leads(holder: str, others: Sequence[str]) -> bool:
    """Whether this process judges for all: of the live ones, the first by name."""
    return all(holder < other for other in others)


def lost_part(part: float) -> float:
    """The part of a process that others must take for dead: it goes on, but they may have taken its part."""
    return part * _LOST
