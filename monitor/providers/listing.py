"""All items of a provider's list, stored compactly. Pure."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning, Request
from monitor.providers.id_set import DIGEST_BYTES, IdDigest, IdSet
from monitor.providers.statuses import worst


class Listing:
    """The ids that a list calls completed, and all others; a million fit into 25 MB.

    Ids are those of `Provider.canonical`. Adding a page twice changes nothing, so a page may be read again. With
    `keep_statuses` it also has the status of each other id: for an API whose list alone answers.
    """

    __slots__ = ("_completed", "_digests", "_others", "_statuses")

    def __init__(self, *, keep_statuses: bool = False) -> None:
        self._completed: dict[str, IdSet] = {}
        self._others = IdSet()
        self._digests: dict[str | None, IdDigest] = defaultdict(IdDigest)
        """By stage; None: of the others."""
        self._statuses: dict[str, ItemStatus | None] | None = {} if keep_statuses else None

    def add(self, found: Iterable[tuple[str, ItemStatus | None]]) -> None:
        """Adds ids with the status that the list gives them; None: it can't be read."""
        by_stage = defaultdict[str | None, list[str]](list)
        for item_id, status in found:
            if status is not None and status.state is ItemState.COMPLETED:
                by_stage[status.stage].append(item_id)
            else:
                by_stage[None].append(item_id)
                self._keep(item_id, status)
        for stage, item_ids in by_stage.items():
            if stage is None:
                self.add_others(item_ids)
            else:
                self.add_completed(stage, item_ids)

    def add_alike(self, status: ItemStatus | None, item_ids: Iterable[str]) -> None:
        """Adds ids that share a status, in half the time of one by one."""
        if self._statuses is not None:
            self.add((item_id, status) for item_id in item_ids)
        elif status is not None and status.state is ItemState.COMPLETED:
            self.add_completed(status.stage, item_ids)
        else:
            self.add_others(item_ids)

    def add_completed(self, stage: str, item_ids: Iterable[str]) -> None:
        """Adds items in a terminal good status, which the API spells `stage`."""
        if stage not in self._completed:
            self._completed[stage] = IdSet()
        self._add(self._completed[stage], self._digests[stage], item_ids)

    def add_others(self, item_ids: Iterable[str]) -> None:
        """Adds items in any other status: they are asked about one by one."""
        self._add(self._others, self._digests[None], item_ids)

    def digest(self) -> bytes | None:
        """What differs for a listing that has other ids, or any in another stage; None if it would not.

        It is that of the same ids in the same order, in any process.
        """
        parts = [(stage or "", stage is None, *each.value()) for stage, each in self._digests.items() if each]
        if any(digest is None for *_, digest in parts):
            return None
        return hashlib.blake2b(repr(sorted(parts)).encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()

    def completed_stages(self, item_ids: Sequence[str]) -> Sequence[str | None]:
        """For each id the API's spelling of its good status; None if the list does not call it completed.

        Many at once cost a third of one by one.
        """
        found: dict[str, str] = {}
        left = item_ids
        if left and self._others:  # listed twice: the worse status counts
            left = [each for each, is_in in zip(left, self._others.find(left), strict=True) if not is_in]
        for stage, ids in self._completed.items():
            if left:  # else nothing is looked up, so nothing need be indexed
                is_found = ids.find(left)
                found.update(dict.fromkeys(itertools.compress(left, is_found), stage))
                left = [each for each, is_in in zip(left, is_found, strict=True) if not is_in]
        return [found.get(each) for each in item_ids]

    def unconfirmed(self, ids: IdSet, apart: Collection[str]) -> Iterator[int]:
        """The hashes (of `hash`) of those ids that the list does not call completed, for a large set.

        It is much faster if the completed ones of the list are these ids, and some of `apart`.
        """
        completed = list(self._completed.values())
        if ids.is_rest_of(completed, apart) and ids.is_apart_from(self._others):
            return iter(())
        return ids.unfound(completed, self._others)

    def completed_stage(self, item_id: str) -> str | None:
        """The same of one id."""
        return self.completed_stages((item_id,))[0]

    def drop_index(self) -> None:
        """Frees what look-ups of single ids have made: it is made again if there are more."""
        for ids in (self._others, *self._completed.values()):
            ids.drop_index()

    def status_of(self, item_id: str) -> ItemStatus | BadBody | None:
        """The item's status, if the listing keeps statuses; a `BadBody` if it can't be read; None: it is not listed.

        Of an item that is listed twice the worse counts.
        """
        if not any(self._others.find((item_id,))):
            stage = self.completed_stage(item_id)
            return None if stage is None else ItemStatus(state=ItemState.COMPLETED, stage=stage)
        status = (self._statuses or {}).get(item_id)
        return BadBody(reason="the list has no status of the item that can be read") if status is None else status

    def contains(self, item_id: str) -> bool:
        """Whether the item is in the list."""
        return any(any(ids.find((item_id,))) for ids in (self._others, *self._completed.values()))

    def __len__(self) -> int:
        return len(self._others) + sum(map(len, self._completed.values()))

    @staticmethod
    def _add(ids: IdSet, digest: IdDigest, item_ids: Iterable[str]) -> None:
        added = list(item_ids)
        ids.update(added)
        digest.update(added)

    def _keep(self, item_id: str, status: ItemStatus | None) -> None:
        """Of several statuses the worst, in whatever order; one that can't be read gives way to a failure alone."""
        if self._statuses is None:
            return
        found = (status, self._statuses[item_id]) if item_id in self._statuses else (status,)
        readable = [each for each in found if each is not None]
        kept = worst(readable) if readable else None
        unsure = len(readable) < len(found) and kept is not None and kept.state is not ItemState.FAILED
        self._statuses[item_id] = None if unsure else kept


class ListReader(Protocol):
    """Reads one page of a list while it arrives. A new one is made for each attempt."""

    def feed(self, piece: bytes) -> bool:
        """Takes the next piece of the body; False if the rest need not be read. Never raises."""

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | Meaning | None:
        """The request for the next page, None after the last, or why the page is unusable. Headers are lower-case.

        A `Meaning` if the provider's description says what such a 2xx means instead: `NOT_FOUND` is what a 404 on the
        list is, the others are causes.
        """
