"""Gloo AI's Data Engine: one item by its UUID, and its status vocabulary. It reads; it does not send.

Of the statuses only COMPLETED and FAILED are documented as terminal; the public cookbook also takes ERROR for failed.
Case is not promised. A status that nobody has described counts as pending and is marked as not recognised.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Request
from monitor.providers import ProviderSettings
from monitor.providers.json_stream import JsonArrayReader
from monitor.providers.listing import Listing, ListReader
from monitor.providers.statuses import StatusTable
from monitor.providers.url_templates import escape

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PENDING = (
    "STARTED",
    "QUEUED",
    "FETCHING",
    "TRANSCRIBING",
    "NORMALIZING",
    "CHUNKING",
    "EMBEDDING",
    "SYNCED",
    "ENRICHED",
)
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

    publisher_id: str | None = None
    statuses: StatusTable = field(default_factory=lambda: StatusTable.with_overrides(_TABLE, {}))
    list_max_bytes: int = 1 << 30

    @classmethod
    def from_settings(cls, settings: ProviderSettings) -> "Gloo":
        """With a target's own `statuses` on top of the table.

        Raises:
            ConfigError: a state is not one of completed, pending, failed, or a status is given two states.
        """
        return cls(
            publisher_id=settings.publisher_id,
            statuses=StatusTable.with_overrides(_TABLE, settings.statuses),
            list_max_bytes=settings.list_max_bytes,
        )

    @property
    def name(self) -> str:
        """What configuration calls it."""
        return "gloo"

    @property
    def token_path(self) -> str:
        """OAuth2 client credentials with HTTP Basic."""
        return "/oauth2/token"

    @property
    def token_scope(self) -> str:
        """The one scope that the API documents."""
        return "api/access"

    def valid_id(self, item_id: str) -> bool:
        """Whether it is a UUID in its canonical form (8-4-4-4-12 hexadecimal digits, either case)."""
        return _UUID.fullmatch(item_id) is not None

    def item_request(self, item_id: str) -> Request:
        """`GET /engine/v2/items/{item_id}`, everything but letters, digits and `-._~` escaped."""
        return Request(
            method="GET",
            path=f"/engine/v2/items/{escape(item_id)}",
            template="/engine/v2/items/{item_id}",
            item_id=item_id,
        )

    def read_item(self, body: bytes, item_id: str) -> ItemStatus | BadBody:
        """The status of the item that was asked for.

        Returns:
            The state with the raw status as `stage` (printable, at most 200 characters), or a `BadBody` when the body
            is not a JSON object with the texts `status` and `item_id`, as documented (error objects of gateways have a
            `status` too), or is about another item.
        """
        try:
            item = msgspec.json.decode(body, type=_Item)
        except msgspec.ValidationError as error:
            # msgspec names types and field names, never values
            return BadBody(reason=f"an item's body has another form: {error}")
        except (ValueError, RecursionError):
            return BadBody(reason="an item's body is not JSON" if body else "an item's body is empty")
        if item.item_id.casefold() != item_id.casefold():
            return BadBody(reason="the body is about another item than the one asked for")
        return self.statuses.read(item.status) or BadBody(reason="an item's status is blank")

    def canonical(self, item_id: str) -> str:
        """UUIDs are the same in either case."""
        return item_id.lower()

    def list_request(self) -> Request | None:
        """`GET /engine/v2/publisher/{publisher_id}/items`: a bare array, in one answer; None without a publisher."""
        if self.publisher_id is None:
            return None
        return Request(
            method="GET",
            path=f"/engine/v2/publisher/{escape(self.publisher_id)}/items",
            template="/engine/v2/publisher/{publisher_id}/items",
            max_bytes=self.list_max_bytes,
        )

    def list_reader(self, page: Request, listing: Listing) -> ListReader:  # noqa: ARG002  # Provider's signature
        """Reads the array as it comes in."""
        return _ListReader(self.statuses, listing)


class _ListRow(msgspec.Struct, gc=False):
    item_id: str
    status: str


class _ListReader:
    """Files the rows of one answer under what their statuses mean."""

    def __init__(self, statuses: StatusTable, listing: Listing) -> None:
        self._statuses, self._listing, self._array = statuses, listing, JsonArrayReader(_ListRow)

    def feed(self, piece: bytes) -> bool:
        """Takes the next piece of the body; False once the rest is not worth reading."""
        self._add_to_listing(self._array.feed(piece))
        return self._array.error is None

    def finish(self, headers: Mapping[str, str]) -> BadBody | None:  # noqa: ARG002  # ListReader's signature
        """None at the end of the list: there is one page; or why it can't be used."""
        self._add_to_listing(self._array.finish())
        if self._array.error is not None:
            return BadBody(reason=self._array.error)
        if self._array.unreadable > self._array.readable:
            return BadBody(reason="most rows of the list have no item_id and status that are text")
        return None

    def _add_to_listing(self, rows: Sequence[_ListRow]) -> None:
        completed: dict[str, list[str]] = {}
        others: list[str] = []
        for row in rows:
            meaning = self._statuses.read(row.status)
            if meaning is not None and meaning.state is ItemState.COMPLETED:
                completed.setdefault(meaning.stage, []).append(row.item_id.lower())
            else:
                others.append(row.item_id.lower())
        for stage, item_ids in completed.items():
            self._listing.add_completed(stage, item_ids)
        self._listing.add_others(others)
