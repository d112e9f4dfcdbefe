"""Items by the ids that their uploaders gave them: a lookup that is kept for minutes and knows of no later change.

Gloo's tutorial warns of exactly that; what an item's own address answers is the truth.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Producers"]

Row = Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Producers:
    """Which items each producer id has had, and what was last found for it."""

    cache_seconds: float
    _item_ids: dict[str, list[str]] = field(default_factory=dict)
    _kept: dict[str, tuple[float, Sequence[Row]]] = field(default_factory=dict)
    """By producer id: until when, and what was found, which may be nothing."""

    def note(self, producer_id: str, item_id: str) -> None:
        """Remembers that an item was uploaded under a producer id; what is kept stays as it is."""
        self._item_ids.setdefault(producer_id, []).append(item_id)

    def rows(self, producer_ids: Sequence[str], now_s: float, look_up: Callable[[str], Row | None]) -> Sequence[Row]:
        """The rows of the items of some producer ids, in their order, each producer id once.

        Args:
            producer_ids: whose items are asked for.
            now_s: the moment of the call.
            look_up: the row of an item as it is now, or None when there is none.
        """
        return [row for each in dict.fromkeys(producer_ids) for row in self._of(each, now_s, look_up)]

    def _of(self, producer_id: str, now_s: float, look_up: Callable[[str], Row | None]) -> Sequence[Row]:
        until_s, kept = self._kept.get(producer_id, (now_s, ()))
        if until_s > now_s:
            return kept
        found = list(self._found(producer_id, look_up))
        self._kept[producer_id] = (now_s + self.cache_seconds, found)
        return found

    def _found(self, producer_id: str, look_up: Callable[[str], Row | None]) -> Iterator[Row]:
        for item_id in self._item_ids.get(producer_id, ()):
            row = look_up(item_id)
            if row is not None:
                yield row
