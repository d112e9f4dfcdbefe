"""A set of ids that takes a fifth of the memory of Python's own: it keeps hashes, not the ids. Pure."""

from array import array
from collections.abc import Iterable, Sequence

_SLOTS_PER_ID = 2
_other = "\0".__add__
"""Makes of an id the text whose hash is the second half."""


class IdSet:
    """Ids by a hash of 128 bits; a million take 24 MB. Ids are not removed.

    The hash is Python's of the id, and of the id behind a prefix: SipHash under a key that each process draws. Whoever
    names ids can't make two of them alike. Of a million ids any two are with a probability of 2⁻⁸⁹.

    The hashes stand in the order in which they came. The first look-up after ids were added finds a slot for each new
    one (open addressing, linear probing), when it is known how many slots that takes.
    """

    __slots__ = ("_count", "_first", "_indexed", "_second", "_slots")

    def __init__(self) -> None:
        # in front of all, so that a place is never 0
        self._first, self._second = array("q", [0]), array("q", [0])
        self._slots = array("I")
        """Places in these arrays; 0: empty."""
        self._indexed, self._count = 1, 0

    def update(self, ids: Iterable[str]) -> None:
        """Adds ids; those that are there already change nothing."""
        added = list(ids)
        self._first.extend(map(hash, added))
        self._second.extend(map(hash, map(_other, added)))

    def find(self, ids: Sequence[str]) -> list[bool]:
        """For each id whether it was added."""
        self._index()
        first, second, slots, size = self._first, self._second, self._slots, len(self._slots)
        found: list[bool] = []
        for one, other in zip(map(hash, ids), map(hash, map(_other, ids)), strict=True):
            at = one % size
            while (place := slots[at]) and (first[place] != one or second[place] != other):
                at = (at + 1) % size
            found.append(place > 0)
        return found

    def __len__(self) -> int:
        self._index()
        return self._count

    def _index(self) -> None:
        """Finds slots for what was added since, or for all if those are too few."""
        first, second, count = self._first, self._second, len(self._first)
        if count * _SLOTS_PER_ID > len(self._slots):
            # room to grow if pages are indexed one by one
            count = 2 * count if self._count else count
            self._slots = array("I", [0]) * (_SLOTS_PER_ID * count)
            self._indexed, self._count = 1, 0
        slots, size, added = self._slots, len(self._slots), 0
        for new in range(self._indexed, len(first)):
            one = first[new]
            at = one % size
            while (place := slots[at]) and (first[place] != one or second[place] != second[new]):
                at = (at + 1) % size
            if not place:
                slots[at] = new
                added += 1
        self._indexed, self._count = len(first), self._count + added
