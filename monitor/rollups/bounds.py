"""The fixed bounds of the histogram of times to indexed, its quantiles, and the widths of its slots. Pure.

Bounds are log-spaced, at most 5% apart, and contain the round durations that people promise: a count of "within 15
minutes" is exact. Each bucket is stored by its upper bound, so that stored rows keep their meaning if bounds change.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from monitor.model.durations import parse_duration

_GROWTH = 1.05
ROUND = tuple(
    parse_duration(text)
    for text in (
        "1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "6h", "12h",
        "1d", "2d", "7d", "30d", "90d", "365d", "3653d",
    )
)  # fmt: skip
"""Durations that are bounds themselves, in ascending order."""
_MS = timedelta(milliseconds=1)


def _between(low_ms: int, high_ms: int) -> list[int]:
    """Bounds over `low_ms` up to `high_ms`, as few as keep neighbours at most 5% apart."""
    parts = math.ceil(math.log(high_ms / low_ms) / math.log(_GROWTH))
    return [round(low_ms * (high_ms / low_ms) ** (part / parts)) for part in range(1, parts)] + [high_ms]


def _bounds_ms() -> tuple[int, ...]:
    rounds = [each // _MS for each in ROUND]
    bounds = [rounds[0]]
    for low, high in pairwise(rounds):
        bounds += _between(low, high)
    return tuple(bounds)


BOUNDS_MS = _bounds_ms()
"""Upper bounds (included) of the buckets in milliseconds, ascending; the first bucket starts at zero."""
NOT_OBSERVED = -1
"""In place of a bound: uploads that were completed without a known time."""
LOST = -2
"""In place of a bound: uploads that left the sync log after they had failed."""

SLOTS = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(days=7))
"""Widths of the slots of submission, from recent to old."""
KEPT = (timedelta(days=4), timedelta(days=35), timedelta(days=100))
"""Slots of each width but the last are kept this long."""


def bound_ms(duration: timedelta) -> int:
    """The upper bound of the bucket of a duration (≥ 0); the last bucket also has all that took longer."""
    # rounded up: what took a microsecond longer than a bound is not within it
    index = bisect_left(BOUNDS_MS, -(-duration // _MS))
    return BOUNDS_MS[min(index, len(BOUNDS_MS) - 1)]


_MONDAY_S = 4 * 86_400
"""A Monday: weeks begin there, and so do all shorter slots."""


def slot_start(at: datetime, width: timedelta) -> datetime:
    """The start of the slot (a width of `SLOTS`) that contains an aware time, in UTC."""
    return datetime.fromtimestamp(start_s(math.floor(at.timestamp()), int(width.total_seconds())), UTC)


def start_s(at_s: int, width_s: int) -> int:
    """The same in seconds since 1970."""
    return (at_s - _MONDAY_S) // width_s * width_s + _MONDAY_S


def kept_since_s(now: datetime, number: int) -> int:
    """From when on slots of a width of `SLOTS`, but the last, are kept at a time, in seconds since 1970.

    They are dropped by the whole slot of the next width.
    """
    return start_s(math.floor((now - KEPT[number]).timestamp()), int(SLOTS[number + 1].total_seconds()))


def quantile_s(buckets: Mapping[int, int], share: float) -> float | None:
    """The duration in seconds within which `share` (over 0, up to 1) of the uploads were indexed; None without any.

    Nearest rank over the buckets (counts by upper bound in ms); the bound is at most 5% over the true value.
    """
    known = buckets
    if min(buckets, default=0) < 0 or min(buckets.values(), default=1) <= 0:
        known = {bound: count for bound, count in buckets.items() if bound >= 0 and count > 0}
    total = sum(known.values())
    rank = math.ceil(share * total)
    # from above, as most shares are high: how many are within the bounds below
    for bound in sorted(known, reverse=True):
        total -= known[bound]
        if total < rank:
            return bound / 1000
    return None
