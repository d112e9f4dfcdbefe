"""The simulated data engine: its items, and what each call about them is answered.

It speaks no HTTP and reads no clock: every call takes `now_s`, in seconds on any steady clock.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from monitor.sandbox import bodies
from monitor.sandbox.bodies import Answer, Body
from monitor.sandbox.credentials import Credentials
from monitor.sandbox.item import Item
from monitor.sandbox.listing import pieces
from monitor.sandbox.producers import Producers
from monitor.sandbox.settings import SandboxSettings
from monitor.sandbox.snippets import read_text, snippets

__all__ = ["Engine"]

MOST_IDS = 1000


@dataclass(slots=True, kw_only=True)
class Engine:
    """The state of the simulated engine, and its answers."""

    settings: SandboxSettings
    epoch: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    """The moment (aware) at which the clock that `now_s` is read from stood at zero."""
    items: dict[str, Item] = field(default_factory=dict)
    """By id, in lower case."""
    credentials: Credentials = field(init=False)
    _producers: Producers = field(init=False)
    _digests: dict[bytes, str] = field(default_factory=dict)
    _leaving: dict[str, float] = field(default_factory=dict)
    """Deleted items that are still answered for, and until when; the first to leave stands first."""

    def __post_init__(self) -> None:
        self.credentials = Credentials(settings=self.settings)
        self._producers = Producers(cache_seconds=self.settings.cache_seconds)

    def item(self, item_id: str, now_s: float) -> Answer:
        """Answers the question for one item."""
        found = self._own(item_id, now_s)
        if isinstance(found, tuple):
            return found
        row, since_s = self._row(found, now_s)
        updated_at = (self.epoch + timedelta(seconds=since_s)).isoformat(timespec="milliseconds")
        etag = hashlib.sha256(f"{row} {since_s}".encode()).hexdigest()[:16]
        more: Body = {"author": [], "item_tags": [], "etag": etag, "updated_at": updated_at.replace("+00:00", "Z")}
        return 200, {**row, **more}

    def listing(self, publisher_id: str, now_s: float) -> Answer | Iterator[bytes]:
        """Answers the question for all items of a publisher: a bare array, in pieces of its JSON."""
        self._sweep(now_s)
        if publisher_id != self.settings.publisher_id:
            return self._closed(publisher_id, bodies.FORBIDDEN)
        own = [item for item in self.items.values() if item.publisher_id == publisher_id]
        return pieces(own, now_s=now_s, item_seconds=self.settings.item_seconds)

    def by_producer(self, publisher_id: str, producer_ids: object, now_s: float) -> Answer:
        """Answers the lookup by producer ids, from what was found in the last minutes if that is kept."""
        self._sweep(now_s)
        if publisher_id != self.settings.publisher_id:
            return self._closed(publisher_id, bodies.FORBIDDEN)
        if not isinstance(producer_ids, list) or not producer_ids:
            return 400, bodies.MISSING_PRODUCER_IDS
        for position, each in enumerate(producer_ids):
            if not isinstance(each, str):
                return 422, bodies.not_text(["producer_ids", position], each)
        found = self._producers.rows(producer_ids, now_s, lambda item_id: self._look_up(item_id, now_s))
        return (200, found) if found else (404, bodies.NO_ITEMS_OF_PRODUCERS)

    def snippets(self, item_id: str, limit: str, now_s: float) -> Answer:
        """Answers the question for the snippets of one document: none before it is completed."""
        found = self._own(item_id, now_s)
        if isinstance(found, tuple):
            return found
        if not limit.isdecimal() or int(limit[:9]) < 1:
            return 422, bodies.not_a_limit(limit)
        if self._row(found, now_s)[0]["status"] != "COMPLETED":
            return 200, {"data": [], "pagination": {"total": 0}}
        return 200, snippets(found, limit=int(limit[:9]))

    def upload(
        self, publisher_id: str | None, files: Sequence[tuple[str, bytes]], *, producer_id: str | None, now_s: float
    ) -> Answer:
        """Answers an upload: new documents start to be processed, known content is a duplicate, never a 409."""
        self._sweep(now_s)
        if not publisher_id or not files:
            given = {"publisher_id": publisher_id, "files": files}
            return 422, bodies.missing_fields([name for name, value in given.items() if not value])
        if publisher_id != self.settings.publisher_id:
            return self._closed(publisher_id, bodies.PUBLISHER_MISMATCH)
        if producer_id is not None and len(files) > 1:
            return 400, bodies.TOO_MANY_FILES
        ingesting, duplicates = [], []
        for filename, content in files:
            digest = hashlib.sha256(content).digest()
            known = self._digests.get(digest)
            if known in self.items and known not in self._leaving:
                duplicates.append(known)
            else:
                ingesting.append(self._take_in(filename, content, producer_id=producer_id, now_s=now_s))
                self._digests[digest] = ingesting[-1]
        message = "File processing started in background."
        return 200, {"success": True, "message": message, "ingesting": ingesting, "duplicates": duplicates}

    def delete(self, item_ids: object, now_s: float) -> Answer:
        """Answers a bulk delete of 1 to 1000 ids: none of them when one is another publisher's, else what can be.

        An item with `locked` in its file's name is deleted in part only, and stays.
        """
        self._sweep(now_s)
        if not isinstance(item_ids, list) or not item_ids:
            return 400, bodies.MISSING_ITEM_IDS
        if len(item_ids) > MOST_IDS:
            return 400, bodies.TOO_MANY_ITEM_IDS
        for position, each in enumerate(item_ids):
            if not isinstance(each, str):
                return 422, bodies.not_text(["item_ids", position], each)
        found = {each: self.items.get(each.lower()) for each in item_ids}
        foreign = [each for each, item in found.items() if item and item.publisher_id != self.settings.publisher_id]
        if foreign:
            return 403, bodies.unauthorized_delete(foreign)
        locked = frozenset(each for each, item in found.items() if item and "locked" in item.filename)
        return 200, bodies.deleted({each: self._leave(each.lower(), now_s) for each in found}, partly=locked)

    def make(
        self,
        count: int,
        *,
        now_s: float,
        status: str | None = None,
        filename: str = "made.txt",
        publisher_id: str | None = None,
    ) -> list[str]:
        """Makes items that keep a status, or walk to the end that their filename says (`item.end_of`)."""
        made = [str(uuid.uuid4()) for _ in range(count)]
        publisher = publisher_id or self.settings.publisher_id
        for item_id in made:
            self.items[item_id] = Item(
                item_id=item_id,
                publisher_id=publisher,
                filename=filename,
                created_s=now_s,
                changed_s=now_s,
                status=status,
            )
        return made

    def count(self, now_s: float) -> int:
        """How many items there are, those included that are deleted but still answered for."""
        self._sweep(now_s)
        return len(self.items)

    def chosen(self, *, filename: str, count: int | None) -> Sequence[Item]:
        """Items with a text in their filename, in the order in which they came; at most `count` of them."""
        return [item for item in self.items.values() if filename in item.filename][:count]

    def _own(self, item_id: str, now_s: float) -> Item | Answer:
        self._sweep(now_s)
        found = self.items.get(item_id.lower())
        if found is None:
            return (404, bodies.ITEM_NOT_FOUND) if _is_uuid(item_id) else (400, bodies.MALFORMED_ID)
        return found if found.publisher_id == self.settings.publisher_id else (403, bodies.ITEM_MISMATCH)

    def _look_up(self, item_id: str, now_s: float) -> Mapping[str, object] | None:
        item = self.items.get(item_id)
        return None if item is None else self._row(item, now_s)[0]

    def _row(self, item: Item, now_s: float) -> tuple[dict[str, object], float]:
        status, since_s = item.standing(now_s, item_seconds=self.settings.item_seconds)
        return item.row(status), since_s

    def _take_in(self, filename: str, content: bytes, *, producer_id: str | None, now_s: float) -> str:
        (item_id,) = self.make(1, now_s=now_s, filename=filename)
        item = self.items[item_id]
        item.text, item.producer_id = read_text(content), producer_id
        if producer_id is not None:
            self._producers.note(producer_id, item_id)
        return item_id

    def _leave(self, item_id: str, now_s: float) -> str | None:
        item = self.items.get(item_id)
        if item is None or item_id in self._leaving:
            return "Item not found"
        if "locked" in item.filename:
            return "Deletion failed"
        self._leaving[item_id] = now_s + self.settings.delete_lag_seconds
        self._sweep(now_s)
        return None

    def _sweep(self, now_s: float) -> None:
        """Lets go of deleted items whose time is over; they left in the order in which they stand."""
        while self._leaving:
            item_id, until_s = next(iter(self._leaving.items()))
            if until_s > now_s:
                return
            del self._leaving[item_id]
            self.items.pop(item_id, None)

    def _closed(self, publisher_id: str, foreign: Body) -> Answer:
        known = publisher_id == self.settings.foreign_publisher_id
        return (403, foreign) if known else (400, bodies.PUBLISHER_NOT_FOUND)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
