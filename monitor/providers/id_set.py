"""A set of ids that takes an eighth of the memory of Python's own: it keeps hashes, not the ids; and a digest of ids.
Pure.
"""

import hashlib
import struct
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence

_SLOTS_PER_ID = 2
_PARTS = 64
"""A power of two: a million ids make parts of 16,000, and sets of them of 2 MB."""
_MAX_SCANS = 8
"""Look-ups without slots, as long as slots are missing: together they cost what the slots would."""
_FEW = 1 << 16
"""Ids of which Python's own set may be made."""


DIGEST_BYTES = 16
_BETWEEN = "\0"
"""In an id it could make the digests of two sequences alike."""


class IdDigest:
    """A digest of a sequence of ids, which another process may compare with its own; however many come at once."""

    __slots__ = ("_count", "_hash", "_is_exact")

    def __init__(self) -> None:
        self._hash, self._count, self._is_exact = hashlib.blake2b(digest_size=DIGEST_BYTES), 0, True

    def update(self, ids: Sequence[str]) -> None:
        """Adds ids."""
        joined = _BETWEEN.join((*ids, ""))
        self._count += len(ids)
        self._is_exact = self._is_exact and joined.count(_BETWEEN) == len(ids)
        self._hash.update(joined.encode(errors="surrogatepass"))

    def __bool__(self) -> bool:
        return self._count > 0

    def value(self) -> tuple[int, bytes | None]:
        """How many ids there are, and their digest; None if one of them has a null character."""
        return self._count, self._hash.digest() if self._is_exact else None


class IdSet:
    """Ids by a hash of 64 bits; a million take 16 MB. Ids are not removed.

    The hash is Python's: SipHash under a key that each process draws, unless PYTHONHASHSEED fixes it. So who names ids
    can't make two of them alike, nor the sums of many.
    An id that is not in a set of a million is taken for one that is with a probability of 2⁻⁴⁴.

    The hashes stand in the order in which they came. The first look-ups scan them all. A later one finds a slot for
    each (open addressing, linear probing), when it is known how many slots that takes.
    """

    __slots__ = ("_count", "_hashes", "_indexed", "_scans", "_slots")

    def __init__(self) -> None:
        # in front of all, so that a place is never 0
        self._hashes = array("q", [0])
        self.drop_index()

    def update(self, ids: Iterable[str]) -> None:
        """Adds ids; those that are there already change nothing."""
        hashes = list(map(hash, ids))
        # in half the time of `extend`, which reads each like an argument of a function
        self._hashes.frombytes(struct.pack(f"{len(hashes)}q", *hashes))

    def find(self, ids: Sequence[str]) -> list[bool]:
        """For each id whether it was added. The more are asked for at once, the less each costs."""
        if self._indexed < len(self._hashes) and self._scans < _MAX_SCANS:
            self._scans += 1
            known = set(map(hash, ids)).intersection(self._each())
            return [each in known for each in map(hash, ids)]
        self._index()
        hashes, slots, size = self._hashes, self._slots, len(self._slots)
        found: list[bool] = []
        for wanted in map(hash, ids):
            at = wanted % size
            while (place := slots[at]) and hashes[place] != wanted:
                at = (at + 1) % size
            found.append(place > 0)
        return found

    def drop_index(self) -> None:
        """Frees the slots."""
        self._slots = array("I")
        """Places among the hashes; 0: empty."""
        self._indexed, self._count, self._scans = 1, 0, 0

    def unfound(self, listed: Iterable["IdSet"], without: "IdSet") -> Iterator[int]:
        """The hashes (of `hash`) of those ids that are in no set of `listed`, or are in `without`.

        It needs no index: all are split by their hashes into parts that are compared at once. For nearly all ids of a
        large set that takes a quarter of the time of `find`.
        """
        lists, excluded = [each._split() for each in listed], without._split()  # noqa: SLF001  # of this very class
        for number, wanted in enumerate(self._split()):
            known = set[int]().union(*(parts[number] for parts in lists))
            known.difference_update(excluded[number])
            if not known.issuperset(wanted):
                yield from set(wanted).difference(known)

    def is_rest_of(self, listed: Sequence["IdSet"], apart: Collection[str]) -> bool:
        """Whether the sets of `listed` have exactly these ids and some of `apart`: True only if all these are in them.

        Their number and the sum of their hashes are compared, in a fifth of the time of `unfound`. If the ids differ,
        the sums are alike with a probability of 2⁻⁶³: whatever the other hashes are, only one value of an id that is
        on one side alone makes them so. False says nothing: it is also said of ids that came twice, and of many.
        """
        more = sum(map(IdSet._size, listed)) - self._size()
        if not 0 <= more <= len(apart) <= _FEW:
            return False
        hashes = set(map(hash, apart))
        found = [hashes.intersection(each._each()) if more else () for each in listed]  # noqa: SLF001  # as above
        return sum(map(len, found)) == more and sum(map(IdSet._sum, listed)) == self._sum() + sum(map(sum, found))

    def is_apart_from(self, others: "IdSet") -> bool:
        """Whether no id is in both. False says nothing if the others are many."""
        hashes = others._hashes[1:]  # noqa: SLF001  # of this very class
        return not hashes or (len(hashes) <= _FEW and set(hashes).isdisjoint(self._each()))

    def _split(self) -> Sequence["array[int]"]:
        parts = [array("q") for _ in range(_PARTS)]
        adding = [part.append for part in parts]
        for each in self._each():
            adding[each % _PARTS](each)
        return parts

    def _each(self) -> Iterator[int]:
        hashes = iter(self._hashes)
        next(hashes)
        return hashes

    def _size(self) -> int:
        """How many were added, those counted again that came twice."""
        return len(self._hashes) - 1

    def _sum(self) -> int:
        return sum(self._hashes)

    def __len__(self) -> int:
        self._index()
        return self._count

    def __bool__(self) -> bool:
        return self._size() > 0

    def _index(self) -> None:
        """Finds slots for what was added since, or for all if those are too few."""
        hashes, count = self._hashes, len(self._hashes)
        if count * _SLOTS_PER_ID > len(self._slots):
            # room to grow if pages are indexed one by one
            count = 2 * count if self._count else count
            self._slots = array("I", [0]) * (_SLOTS_PER_ID * count)
            self._indexed, self._count = 1, 0
        slots, size, added = self._slots, len(self._slots), 0
        for new in range(self._indexed, len(hashes)):
            wanted = hashes[new]
            at = wanted % size
            while (place := slots[at]) and hashes[place] != wanted:
                at = (at + 1) % size
            if not place:
                slots[at] = new
                added += 1
        self._indexed, self._count = len(hashes), self._count + added
