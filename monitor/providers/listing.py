"""What a provider's list says of all items at once, held as compactly as a set can. Pure."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from monitor.model import BadBody
from monitor.model.http import Request


class Listing:
    """The ids that a list calls completed, and those that it calls anything else; a million fit into 200 MB.

    Ids are those of `Provider.canonical`. Adding a page twice changes nothing, so that one may be read again.
    """

    __slots__ = ("_completed", "_others")

    def __init__(self) -> None:
        self._completed: dict[str, set[str]] = {}
        self._others: set[str] = set()

    def add_completed(self, stage: str, item_ids: Iterable[str]) -> None:
        """Items in a terminal good status, which the API spells `stage`."""
        self._completed.setdefault(stage, set()).update(item_ids)

    def add_others(self, item_ids: Iterable[str]) -> None:
        """Items in any other status: they are asked one by one."""
        self._others.update(item_ids)

    def completed_stage(self, item_id: str) -> str | None:
        """How the API spells the good status of an item; None when the list does not call it completed."""
        if item_id in self._others:
            return None  # named twice: what is less well counts
        return next((stage for stage, ids in self._completed.items() if item_id in ids), None)

    def contains(self, item_id: str) -> bool:
        """Whether the list has the item at all."""
        return item_id in self._others or any(item_id in ids for ids in self._completed.values())

    @property
    def completed(self) -> Mapping[str, frozenset[str] | set[str]]:
        """The completed ids by stage."""
        return self._completed

    def __len__(self) -> int:
        return len(self._others) + sum(map(len, self._completed.values()))


class ListReader(Protocol):
    """Reads one page of a list while it comes in. Made anew for each attempt."""

    def feed(self, piece: bytes) -> bool:
        """Takes the next piece of the body; False once the rest is not worth reading. Never raises."""
        ...

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | None:
        """What comes after the page: the request for the next one, None after the last, or why it can't be used.

        Args:
            headers: of the answer, names in lower case.
        """
        ...
