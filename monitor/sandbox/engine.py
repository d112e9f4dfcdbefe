"""The simulated data engine: items and answers, without HTTP or a clock. `now_s` is in seconds on any monotonic one."""

import hashlib
import textwrap
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from monitor.sandbox import responses
from monitor.sandbox.credentials import Credentials
from monitor.sandbox.requests import ItemBatch, ItemSelection
from monitor.sandbox.responses import Body, JsonAnswer
from monitor.sandbox.settings import SandboxSettings

STAGES = (
    "STARTED", "QUEUED", "FETCHING", "NORMALIZING", "CHUNKING", "EMBEDDING", "SYNCED", "ENRICHED", "COMPLETED",
)  # fmt: skip
"""The stages of a document, in equal steps; TRANSCRIBING is for audio and occurs only when set."""


def final_status(filename: str) -> str:
    """The last status of a document, by its name: FAILED with `fail` in it, CHUNKING with `stuck`, else COMPLETED."""
    return "FAILED" if "fail" in filename else "CHUNKING" if "stuck" in filename else "COMPLETED"


@dataclass(slots=True, kw_only=True)
class Item:
    """One document in the engine."""

    item_id: str
    publisher_id: str
    filename: str
    created_s: float
    changed_s: float
    """When it was last changed by hand."""
    status: str | None = None
    """A fixed status; None while it walks through the stages."""
    producer_id: str | None = None
    text: str = ""
    """The uploaded text; empty for an item made by hand."""

    @property
    def title(self) -> str:
        """The filename without its extension."""
        return self.filename.rsplit(".", 1)[0]

    def row(self, status: str) -> dict[str, object]:
        """Its row in a list, with the given status."""
        producer = {} if self.producer_id is None else {"producer_id": self.producer_id}
        row = {"item_id": self.item_id, "item_title": self.title, "filename": self.filename, "status": status}
        return {**row, **producer}

    def status_at(self, now_s: float, *, item_seconds: float) -> tuple[str, float]:
        """Its status, and since when (on the clock of `now_s`). `item_seconds` (≥ 0): from first stage to last."""
        if self.status is not None:
            return self.status, self.changed_s
        end, last = final_status(self.filename), len(STAGES) - 1
        end_position = STAGES.index(end) if end in STAGES else last
        progress = min((now_s - self.created_s) / item_seconds, 1.0) if item_seconds else 1.0
        position = min(int(progress * last), end_position)
        since_s = self.created_s + item_seconds * position / last
        return end if position == end_position else STAGES[position], max(since_s, self.changed_s)


ROWS_PER_PIECE = 2_000
MAX_CACHED_ROWS = 10_000


def encode_rows(items: Sequence[Item], *, now_s: float, item_seconds: float) -> Iterator[bytes]:
    """A JSON array of the items' rows, in pieces of about 250 KB; a short list is a single piece."""
    cached: dict[tuple[str, str | None, float, str | None], str] = {}

    def row(item: Item) -> str:
        # items that were made together differ only in their ids: the rest is encoded once
        key = (item.filename, item.status, item.created_s, item.producer_id)
        encoded = cached.get(key)
        if encoded is None:
            if len(cached) >= MAX_CACHED_ROWS:
                cached.clear()
            rest = item.row(item.status_at(now_s, item_seconds=item_seconds)[0])
            del rest["item_id"]
            encoded = cached[key] = msgspec.json.encode(rest).decode()[1:]
        return f'{{"item_id":"{item.item_id}",{encoded}'

    opening = "["
    for start in range(0, len(items), ROWS_PER_PIECE):
        last = start + ROWS_PER_PIECE >= len(items)
        rows = ",".join(map(row, items[start : start + ROWS_PER_PIECE]))
        yield f"{opening}{rows}{']' if last else ''}".encode()
        opening = ","
    if not items:
        yield b"[]"


Row = Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Producers:
    """The items of each producer id, and the cached lookups."""

    cache_seconds: float
    _item_ids: dict[str, list[str]] = field(default_factory=dict)
    _cache: dict[str, tuple[float, Sequence[Row]]] = field(default_factory=dict)
    """By producer id: until when, and the rows, which may be none."""

    def add(self, producer_id: str, item_id: str) -> None:
        """Stores that an item was uploaded under a producer id; cached lookups stay as they are."""
        self._item_ids.setdefault(producer_id, []).append(item_id)

    def rows(self, producer_ids: Sequence[str], now_s: float, look_up: Callable[[str], Row | None]) -> Sequence[Row]:
        """The rows of the items of some producer ids, in order, each id once. `look_up` gives an item's row now."""
        found: list[Row] = []
        for each in dict.fromkeys(producer_ids):
            until_s, rows = self._cache.get(each, (now_s, ()))
            if until_s <= now_s:
                rows = [row for item_id in self._item_ids.get(each, ()) if (row := look_up(item_id)) is not None]
                self._cache[each] = (now_s + self.cache_seconds, rows)
            found += rows
        return found


MAX_TEXT_BYTES = 65_536  # of an upload, that are kept
SNIPPET_CHARS = 400


def snippets(item: Item, *, limit: int) -> Mapping[str, object]:
    """The answer about a completed document: at most `limit` (≥ 1) pieces of its text; a sentence if made by hand."""
    text = item.text or f"This is the simulated text of {item.title}."
    parts = textwrap.wrap(text, SNIPPET_CHARS)
    data = [{"id": f"{item.item_id}-{n}", "part": n, "snippet": part} for n, part in enumerate(parts[:limit])]
    return {"data": data, "pagination": {"total": len(parts)}}


MAX_DELETE_IDS = 1000


@dataclass(slots=True, kw_only=True)
class Engine:
    """The state of the simulated engine, and its answers. At `epoch` (aware), the clock of `now_s` was zero."""

    settings: SandboxSettings
    epoch: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    items: dict[str, Item] = field(default_factory=dict)
    """By id, in lower case."""
    credentials: Credentials = field(init=False)
    _producers: Producers = field(init=False)
    _digests: dict[bytes, str] = field(default_factory=dict)
    _deleted_until: dict[str, float] = field(default_factory=dict)
    """Deleted items that are still found, and until when; the first to go comes first."""

    def __post_init__(self) -> None:
        self.credentials = Credentials(settings=self.settings)
        self._producers = Producers(cache_seconds=self.settings.cache_seconds)

    def item(self, item_id: str, now_s: float) -> JsonAnswer:
        """Answers a request for one item."""
        found = self._own_item(item_id, now_s)
        if isinstance(found, tuple):
            return found
        row, since_s = self._row(found, now_s)
        updated_at = (self.epoch + timedelta(seconds=since_s)).isoformat(timespec="milliseconds")
        etag = hashlib.sha256(f"{row} {since_s}".encode()).hexdigest()[:16]
        more: Body = {"author": [], "item_tags": [], "etag": etag, "updated_at": updated_at.replace("+00:00", "Z")}
        return 200, {**row, **more}

    def list_items(self, publisher_id: str, now_s: float) -> JsonAnswer | Iterator[bytes]:
        """Answers a request for all items of a publisher: a bare array, in pieces of JSON."""
        self._purge_deleted(now_s)
        if publisher_id != self.settings.publisher_id:
            return self._publisher_error(publisher_id, responses.FORBIDDEN)
        own = [item for item in self.items.values() if item.publisher_id == publisher_id]
        return encode_rows(own, now_s=now_s, item_seconds=self.settings.item_seconds)

    def by_producer(self, publisher_id: str, producer_ids: object, now_s: float) -> JsonAnswer:
        """Answers the lookup by producer ids, from the cache if it is fresh."""
        self._purge_deleted(now_s)
        if publisher_id != self.settings.publisher_id:
            return self._publisher_error(publisher_id, responses.FORBIDDEN)
        if not isinstance(producer_ids, list) or not producer_ids:
            return 400, responses.MISSING_PRODUCER_IDS
        if wrong := _not_a_string("producer_ids", producer_ids):
            return wrong

        def look_up(item_id: str) -> Row | None:
            item = self.items.get(item_id)
            return self._row(item, now_s)[0] if item else None

        found = self._producers.rows(producer_ids, now_s, look_up)
        return (200, found) if found else (404, responses.NO_ITEMS_OF_PRODUCERS)

    def snippets(self, item_id: str, limit: str, now_s: float) -> JsonAnswer:
        """Answers a request for the snippets of one document: none before it is completed."""
        found = self._own_item(item_id, now_s)
        if isinstance(found, tuple):
            return found
        if not limit.isdecimal() or int(limit[:9]) < 1:
            return 422, responses.not_a_limit(limit)
        if self._row(found, now_s)[0]["status"] != "COMPLETED":
            return 200, {"data": [], "pagination": {"total": 0}}
        return 200, snippets(found, limit=int(limit[:9]))

    def upload(
        self, publisher_id: str | None, files: Sequence[tuple[str, bytes]], *, producer_id: str | None, now_s: float
    ) -> JsonAnswer:
        """Answers an upload: new documents start their walk, known content is a duplicate, never a 409."""
        self._purge_deleted(now_s)
        if not publisher_id or not files:
            given = {"publisher_id": publisher_id, "files": files}
            return 422, responses.missing_fields([name for name, value in given.items() if not value])
        if publisher_id != self.settings.publisher_id:
            return self._publisher_error(publisher_id, responses.PUBLISHER_MISMATCH)
        if producer_id is not None and len(files) > 1:
            return 400, responses.TOO_MANY_FILES
        ingesting, duplicates = [], []
        for filename, content in files:
            digest = hashlib.sha256(content).digest()
            known = self._digests.get(digest)
            if known in self.items and known not in self._deleted_until:
                duplicates.append(known)
            else:
                ingesting.append(self._store_upload(filename, content, producer_id=producer_id, now_s=now_s))
                self._digests[digest] = ingesting[-1]
        message = "File processing started in background."
        return 200, {"success": True, "message": message, "ingesting": ingesting, "duplicates": duplicates}

    def delete(self, item_ids: object, now_s: float) -> JsonAnswer:
        """Answers a bulk delete of 1 to 1000 ids: none is deleted if one is another publisher's.

        An item with `locked` in its filename is deleted only in part, and stays.
        """
        self._purge_deleted(now_s)
        if not isinstance(item_ids, list) or not item_ids:
            return 400, responses.MISSING_ITEM_IDS
        if len(item_ids) > MAX_DELETE_IDS:
            return 400, responses.TOO_MANY_ITEM_IDS
        if wrong := _not_a_string("item_ids", item_ids):
            return wrong
        found = {each: self.items.get(each.lower()) for each in item_ids}
        foreign = [each for each, item in found.items() if item and item.publisher_id != self.settings.publisher_id]
        if foreign:
            return 403, responses.unauthorized_delete(foreign)
        locked = frozenset(each for each, item in found.items() if item and "locked" in item.filename)
        errors = {each: self._delete_item(each.lower(), now_s) for each in found}
        return 200, responses.deleted(errors, partially=locked)

    def create_items(self, batch: ItemBatch, now_s: float) -> list[str]:
        """Creates items with a fixed status, or that walk to the end that their filename says (`final_status`)."""
        item_ids = [str(uuid.uuid4()) for _ in range(batch.count)]
        publisher, filename, status = batch.publisher_id or self.settings.publisher_id, batch.filename, batch.status
        for each in item_ids:
            self.items[each] = Item(
                item_id=each, publisher_id=publisher, filename=filename, created_s=now_s, changed_s=now_s, status=status
            )
        return item_ids

    def count(self, now_s: float) -> int:
        """How many items there are, including deleted ones that are still found."""
        self._purge_deleted(now_s)
        return len(self.items)

    def select_items(self, selection: ItemSelection) -> Sequence[Item]:
        """The selected items, oldest first."""
        return [item for item in self.items.values() if selection.filename in item.filename][: selection.count]

    def _own_item(self, item_id: str, now_s: float) -> Item | JsonAnswer:
        self._purge_deleted(now_s)
        found = self.items.get(item_id.lower())
        if found is None:
            return (404, responses.ITEM_NOT_FOUND) if _is_uuid(item_id) else (400, responses.MALFORMED_ID)
        return found if found.publisher_id == self.settings.publisher_id else (403, responses.ITEM_MISMATCH)

    def _row(self, item: Item, now_s: float) -> tuple[dict[str, object], float]:
        status, since_s = item.status_at(now_s, item_seconds=self.settings.item_seconds)
        return item.row(status), since_s

    def _store_upload(self, filename: str, content: bytes, *, producer_id: str | None, now_s: float) -> str:
        (item_id,) = self.create_items(ItemBatch(filename=filename), now_s)
        item = self.items[item_id]
        item.text, item.producer_id = content[:MAX_TEXT_BYTES].decode(errors="replace"), producer_id
        if producer_id is not None:
            self._producers.add(producer_id, item_id)
        return item_id

    def _delete_item(self, item_id: str, now_s: float) -> str | None:
        item = self.items.get(item_id)
        if item is None or item_id in self._deleted_until:
            return "Item not found"
        if "locked" in item.filename:
            return "Deletion failed"
        self._deleted_until[item_id] = now_s + self.settings.delete_lag_seconds
        self._purge_deleted(now_s)
        return None

    def _purge_deleted(self, now_s: float) -> None:
        """Removes deleted items whose time is over; they are in order of time."""
        while self._deleted_until:
            item_id, until_s = next(iter(self._deleted_until.items()))
            if until_s > now_s:
                return
            del self._deleted_until[item_id]
            self.items.pop(item_id, None)

    def _publisher_error(self, publisher_id: str, foreign: Body) -> JsonAnswer:
        known = publisher_id == self.settings.foreign_publisher_id
        return (403, foreign) if known else (400, responses.PUBLISHER_NOT_FOUND)


def _not_a_string(field: str, values: Sequence[object]) -> JsonAnswer | None:
    wrong = ((422, responses.not_a_string([field, n], each)) for n, each in enumerate(values) if type(each) is not str)
    return next(wrong, None)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
