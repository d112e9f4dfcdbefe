"""Chooses the slots whose sums make up a period: wide ones inside, narrow ones at its ends. Pure.

An upload is counted in a slot of every width. Narrow slots are only kept for some time, so an old period is as exact as
the slots that are left of it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from monitor.rollups.bounds import SLOTS, start_s

WIDTHS_S = tuple(int(width.total_seconds()) for width in SLOTS)
"""Widths of the slots in seconds, from narrow to wide."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Slots of one width in a row."""

    width_s: int
    start_s: int
    """Start of the first, in seconds since 1970."""
    end_s: int
    """End of the last."""


@dataclass(frozen=True, slots=True)
class Kept:
    """From when on slots of each width but the last are kept, in seconds since 1970, from narrow to wide.

    All uploads since then are in them. None: there are none.
    """

    since_s: tuple[int | None, ...]

    @classmethod
    def of(cls, oldest: Sequence[datetime | None]) -> "Kept":
        """By the start of the oldest slot of each width but the last: slots are dropped by the whole wider slot."""
        wider = zip(oldest, WIDTHS_S[1:], strict=True)
        return cls(tuple(None if at is None else start_s(int(at.timestamp()), width_s) for at, width_s in wider))

    def narrowest(self, at_s: int) -> int:
        """Which width is the narrowest that is kept of a time."""
        for number, since_s in enumerate(self.since_s):
            if since_s is not None and at_s >= since_s:
                return number
        return len(self.since_s)


def aligned(at: datetime, kept: Kept, *, up: bool = True) -> int:
    """The start of the narrowest slot there is at a time, in seconds since 1970; `up`: the first that starts later.

    A time at which a slot starts stays.
    """
    whole_s = int(at.timestamp())
    width_s = WIDTHS_S[kept.narrowest(whole_s)]
    start = start_s(whole_s, width_s)
    if not up or (start == whole_s and not at.microsecond):
        return start
    return start + width_s


def cover(since_s: int, until_s: int, kept: Kept) -> Iterator[Slots]:
    """The fewest slots that make up a period between two aligned times, in order."""
    at_s = since_s
    while at_s < until_s:
        found = _widest(at_s, until_s, kept)
        yield found
        at_s = found.end_s


@dataclass(frozen=True, slots=True)
class Part:
    """Slots that are added to the sums of some spans (1), and taken from those of others (-1)."""

    slots: Slots
    signs: tuple[tuple[int, int], ...]
    """Number of the span, and the sign."""


WHOLE = -1
"""In place of the number of a span: all of them together."""


def parts_of_spans(edges_s: Sequence[int], kept: Kept) -> list[Part]:
    """The slots from which the sums of adjacent spans, and of all of them together, follow. `edges_s`: n + 1 aligned.

    A span is what begins in wide slots up to its end, less what begins in them up to its start: so a span that ends at
    ten to four needs three hours and takes two slots of five minutes away, and not three hours and ten of them.
    """
    return min((_parts(edges_s, kept, number) for number in range(1, len(WIDTHS_S))), key=_cost)


def _cost(parts: Sequence[Part]) -> int:
    """How many rows are read, and added to sums."""
    return sum((part.slots.end_s - part.slots.start_s) // part.slots.width_s * (1 + len(part.signs)) for part in parts)


def _parts(edges_s: Sequence[int], kept: Kept, number: int) -> list[Part]:
    """With slots of this width, or wider ones, between the spans' ends."""
    last, width_s = len(edges_s) - 1, WIDTHS_S[number]
    signs = defaultdict[Slots, Counter[int]](Counter)
    for each, edge_s in enumerate(edges_s):
        ends, begins = ([each - 1] if each else []), ([each] if each < last else [])
        if each in {0, last}:
            (ends if each else begins).append(WHOLE)
        for slots, sign in _head(edge_s, number):
            signs[slots].update(dict.fromkeys(ends, sign))
            signs[slots].update(dict.fromkeys(begins, -sign))
    starts_s = [start_s(edge_s, width_s) if kept.narrowest(edge_s) < number else edge_s for edge_s in edges_s]
    for span, (begin_s, end_s) in enumerate(pairwise(starts_s)):
        for slots in cover(begin_s, end_s, kept):
            signs[slots][span] += 1
    for slots in cover(starts_s[0], starts_s[-1], kept):
        signs[slots][WHOLE] += 1
    parts = (Part(slots, tuple((span, sign) for span, sign in found.items() if sign)) for slots, found in signs.items())
    return [part for part in parts if part.signs]


def _head(edge_s: int, number: int) -> list[tuple[Slots, int]]:
    """From the start of the slot of this width to a time in it: narrower slots, or the slot less those after it."""
    if number == 0 or start_s(edge_s, WIDTHS_S[number]) == edge_s:
        return []
    width_s, narrow_s = WIDTHS_S[number], WIDTHS_S[number - 1]
    begin_s, middle_s = start_s(edge_s, width_s), start_s(edge_s, narrow_s)
    rest = _head(edge_s, number - 1)
    before = [(Slots(narrow_s, begin_s, middle_s), 1)] if middle_s > begin_s else []
    after = [(Slots(narrow_s, middle_s, begin_s + width_s), -1)]
    if middle_s - begin_s <= width_s // 2:
        return [*before, *rest]
    return [(Slots(width_s, begin_s, begin_s + width_s), 1), *after, *rest]


def _widest(at_s: int, until_s: int, kept: Kept) -> Slots:
    """The widest slots that start at a time and end in the period, as many as are in a row."""
    narrowest = kept.narrowest(at_s)
    for number in range(len(WIDTHS_S) - 1, narrowest, -1):
        width_s = WIDTHS_S[number]
        if start_s(at_s, width_s) == at_s and at_s + width_s <= until_s:
            return Slots(width_s, at_s, _end_s(at_s, until_s, number))
    return Slots(WIDTHS_S[narrowest], at_s, max(_end_s(at_s, until_s, narrowest), at_s + WIDTHS_S[narrowest]))


def _end_s(at_s: int, until_s: int, number: int) -> int:
    width_s = WIDTHS_S[number]
    last_s = at_s + (until_s - at_s) // width_s * width_s
    if number + 1 == len(WIDTHS_S):
        return last_s
    wider_s = WIDTHS_S[number + 1]
    next_s = start_s(at_s, wider_s) + wider_s
    return min(last_s, next_s) if next_s + wider_s <= until_s else last_s
