"""All items of a provider's list, stored compactly. Pure."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Request


class Listing:
    """The ids that a list calls completed, and all others; a million fit into 200 MB.

    Ids are those of `Provider.canonical`. Adding a page twice changes nothing, so a page may be read again.
    """

    __slots__ = ("_completed", "_others")

    def __init__(self) -> None:
        self._completed: dict[str, set[str]] = {}
        self._others: set[str] = set()

    def add(self, found: Iterable[tuple[str, ItemStatus | None]]) -> None:
        """Adds ids with the status that the list gives them; None: it can't be read."""
        for item_id, status in found:
            if status is not None and status.state is ItemState.COMPLETED:
                self._completed.setdefault(status.stage, set()).add(item_id)
            else:
                self._others.add(item_id)

    def add_alike(self, status: ItemStatus | None, item_ids: Iterable[str]) -> None:
        """Adds ids that share a status, in half the time of one by one."""
        if status is not None and status.state is ItemState.COMPLETED:
            self.add_completed(status.stage, item_ids)
        else:
            self.add_others(item_ids)

    def add_completed(self, stage: str, item_ids: Iterable[str]) -> None:
        """Adds items in a terminal good status, which the API spells `stage`."""
        self._completed.setdefault(stage, set()).update(item_ids)

    def add_others(self, item_ids: Iterable[str]) -> None:
        """Adds items in any other status: they are asked about one by one."""
        self._others.update(item_ids)

    def completed_stage(self, item_id: str) -> str | None:
        """The API's spelling of an item's good status; None if the list does not call it completed."""
        if item_id in self._others:
            return None  # listed twice: the worse status counts
        return next((stage for stage, ids in self._completed.items() if item_id in ids), None)

    def contains(self, item_id: str) -> bool:
        """Whether the item is in the list."""
        return item_id in self._others or any(item_id in ids for ids in self._completed.values())

    @property
    def completed(self) -> Mapping[str, frozenset[str] | set[str]]:
        """The completed ids by stage."""
        return self._completed

    def __len__(self) -> int:
        return len(self._others) + sum(map(len, self._completed.values()))


class ListReader(Protocol):
    """Reads one page of a list while it arrives. A new one is made for each attempt."""

    def feed(self, piece: bytes) -> bool:
        """Takes the next piece of the body; False if the rest need not be read. Never raises."""

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | None:
        """The request for the next page, None after the last, or why the page is unusable. Headers are lower-case."""
