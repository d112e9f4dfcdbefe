"""Gloo AI's Data Engine: one item by its UUID, the list of a publisher, and the statuses. It reads; it does not send.

Only COMPLETED and FAILED are documented as terminal; the public cookbook also treats ERROR as failed. Case is not
guaranteed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Request
from monitor.model.json_body import decode_json
from monitor.providers import ProviderSettings
from monitor.providers.json_stream import JsonArrayReader
from monitor.providers.listing import Listing, ListReader
from monitor.providers.statuses import StatusTable
from monitor.providers.templates import escape

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PENDING = (
    "STARTED", "QUEUED", "FETCHING", "TRANSCRIBING", "NORMALIZING", "CHUNKING", "EMBEDDING", "SYNCED", "ENRICHED"
)  # fmt: skip
_TABLE: Mapping[str, ItemState] = {
    **dict.fromkeys(_PENDING, ItemState.PENDING),
    "COMPLETED": ItemState.COMPLETED,
    "FAILED": ItemState.FAILED,
    "ERROR": ItemState.FAILED,
}


class _Item(msgspec.Struct):
    status: str
    item_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gloo:
    """Gloo AI (API reference: Get Item Metadata, `GET /engine/v2/items/{item_id}`)."""

    name: ClassVar[str] = "gloo"
    token_path: ClassVar[str] = "/oauth2/token"  # noqa: S105  # a path
    token_scope: ClassVar[str] = "api/access"  # noqa: S105  # a scope

    publisher_id: str | None = None
    statuses: StatusTable = field(default_factory=lambda: StatusTable.with_overrides(_TABLE, {}))
    list_max_bytes: int = 1 << 30

    @classmethod
    def from_settings(cls, settings: ProviderSettings) -> "Gloo":
        """The table with the target's own `statuses` on top; raises as `StatusTable.with_overrides`."""
        return cls(
            publisher_id=settings.publisher_id,
            statuses=StatusTable.with_overrides(_TABLE, settings.statuses),
            list_max_bytes=settings.list_max_bytes,
        )

    def valid_id(self, item_id: str) -> bool:
        """Whether it is a UUID in canonical form (8-4-4-4-12 hexadecimal digits, either case)."""
        return _UUID.fullmatch(item_id) is not None

    def item_request(self, item_id: str) -> Request:
        """`GET /engine/v2/items/{item_id}`, the id escaped."""
        return Request(
            method="GET",
            path=f"/engine/v2/items/{escape(item_id)}",
            template="/engine/v2/items/{item_id}",
            item_id=item_id,
        )

    def read_item(self, body: bytes, item_id: str) -> ItemStatus | BadBody:
        """The item's status, or a `BadBody` if the body is about another item or is not a JSON object with the texts
        `status` and `item_id` (error objects of gateways have a `status` too).
        """
        try:
            item = decode_json(body, _Item)
        except msgspec.ValidationError as error:
            # msgspec names types and field names, never values
            return BadBody(reason=f"the item's body has an unexpected form: {error}")
        except (ValueError, RecursionError):
            return BadBody(reason="the item's body is not JSON" if body else "the item's body is empty")
        if item.item_id.casefold() != item_id.casefold():
            return BadBody(reason="the body is about another item than requested")
        return self.statuses.read(item.status) or BadBody(reason="the item's status is blank")

    def canonical(self, item_id: str) -> str:
        """The id in lower case: a UUID is the same in either case."""
        return item_id.lower()

    def list_request(self) -> Request | None:
        """`GET /engine/v2/publisher/{publisher_id}/items`: a bare array in one answer; None without a publisher."""
        if self.publisher_id is None:
            return None
        return Request(
            method="GET",
            path=f"/engine/v2/publisher/{escape(self.publisher_id)}/items",
            template="/engine/v2/publisher/{publisher_id}/items",
            max_bytes=self.list_max_bytes,
        )

    def list_reader(self, page: Request, listing: Listing) -> ListReader:  # noqa: ARG002  # Provider's signature
        """Reads the array as it arrives."""
        return _ListReader(self.statuses, listing)


class _ListRow(msgspec.Struct, gc=False):
    item_id: str
    status: str


class _ListReader:
    """Adds the rows of one answer to the listing."""

    def __init__(self, statuses: StatusTable, listing: Listing) -> None:
        self._statuses, self._listing, self._array = statuses, listing, JsonArrayReader(_ListRow)

    def feed(self, piece: bytes) -> bool:
        """Takes the next piece of the body; False if the rest need not be read."""
        self._add_to_listing(self._array.feed(piece))
        return self._array.error is None

    def finish(self, headers: Mapping[str, str]) -> BadBody | None:  # noqa: ARG002  # ListReader's signature
        """None at the end of the list, which has one page; or why it can't be used."""
        self._add_to_listing(self._array.finish())
        if self._array.error is not None:
            return BadBody(reason=self._array.error)
        if self._array.unreadable > self._array.readable:
            return BadBody(reason="most rows of the list have no text as item_id and status")
        return None

    def _add_to_listing(self, rows: Sequence[_ListRow]) -> None:
        by_status: dict[str, list[str]] = {}
        for row in rows:
            by_status.setdefault(row.status, []).append(row.item_id.lower())
        for status, item_ids in by_status.items():
            self._listing.add_alike(self._statuses.read(status), item_ids)
