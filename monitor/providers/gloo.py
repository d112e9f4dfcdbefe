"""Gloo AI's Data Engine: a description (one item by its UUID, the list of a publisher, statuses) with faster readers.

Only COMPLETED and FAILED are documented as terminal; the public cookbook also treats ERROR as failed. Case is not
guaranteed.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import msgspec
from msgspec import structs

from monitor.model import BadBody, ItemState
from monitor.model.http import Meaning, Request
from monitor.model.json_body import decode_json
from monitor.providers import FollowUp, ProviderSettings
from monitor.providers.answers import ItemAnswer
from monitor.providers.description import Description, ItemRule, ListRule
from monitor.providers.generic import Generic
from monitor.providers.json_stream import JsonArrayReader
from monitor.providers.listing import Listing, ListReader
from monitor.providers.statuses import StatusTable, Word

# both cases written out: every id is looked at, and IGNORECASE takes twice as long
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ITEM = {
    "path": "/engine/v2/items/{item_id}",
    "id": "item_id",
    "id_pattern": "(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}
_LIST = {"path": "/engine/v2/publisher/{publisher_id}/items", "id": "item_id"}
"""A bare array in one answer; Gloo has no list without a publisher."""
_STATUSES: Mapping[str, Sequence[Word]] = {
    "completed": ["COMPLETED"],
    "pending": [
        "STARTED", "QUEUED", "FETCHING", "TRANSCRIBING", "NORMALIZING", "CHUNKING", "EMBEDDING", "SYNCED", "ENRICHED",
    ],
    "failed": ["FAILED", "ERROR"],
}  # fmt: skip
_ITEM_RULE, _LIST_RULE = msgspec.convert(_ITEM, ItemRule), msgspec.convert(_LIST, ListRule)

_NOT_FOUND = ItemState.NOT_FOUND  # looked up once: it is compared for every item


class _Item(msgspec.Struct):
    status: str
    item_id: str


def _same_answers(rule: ItemRule | None, known: ItemRule) -> bool:
    """Whether answers have the same form, whatever the path and the form of ids."""
    return rule is not None and structs.replace(rule, path=known.path, id_pattern=known.id_pattern) == known


class Gloo(Generic):
    """Gloo AI (API reference: Get Item Metadata, `GET /engine/v2/items/{item_id}`)."""

    __slots__ = ("_fast_ids", "_fast_item", "_fast_list", "_table")

    def __init__(
        self, description: Description, settings: ProviderSettings, table: StatusTable, params: Mapping[str, str]
    ) -> None:
        """What a target changes in the questions is read as described, without the faster readers."""
        Generic.__init__(self, description, settings, table, params)
        self._table = table
        self._fast_item = _same_answers(description.item, _ITEM_RULE)
        self._fast_ids = description.item is not None and description.item.id_pattern == _ITEM_RULE.id_pattern
        self._fast_list = description.list == _LIST_RULE and not description.errors

    @classmethod
    def from_settings(
        cls,
        settings: ProviderSettings,
        *,
        name: str = "gloo",
        token_path: str | None = "/oauth2/token",  # noqa: S107  # a path
        token_scope: str = "api/access",  # noqa: S107  # a scope
        statuses: Mapping[str, Sequence[Word]] = _STATUSES,
    ) -> Self:
        """The description with the target's own tables and `statuses` on top. Raises as `Generic.from_settings`."""
        has_publisher = bool(settings.publisher_id or "publisher_id" in settings.params)
        known = {"item": _ITEM, "uuid_ids": True, **({"list": _LIST} if has_publisher else {})}
        given = {key: value for key, value in settings.options.items() if value is not None}
        return super().from_settings(
            replace(settings, options={**known, **given}),
            name=name,
            token_path=token_path,
            token_scope=token_scope,
            statuses=statuses,
        )

    def valid_id(self, item_id: str) -> bool:
        """Whether it is a UUID in canonical form (8-4-4-4-12 hexadecimal digits, either case)."""
        return _UUID.fullmatch(item_id) is not None if self._fast_ids else super().valid_id(item_id)

    def read_item(self, body: bytes, item_id: str) -> ItemAnswer | FollowUp:
        """The item's status, or a `BadBody` if the body is about another item or is not a JSON object with the texts
        `status` and `item_id` (error objects of gateways have a `status` too).
        """
        if not self._fast_item:
            return super().read_item(body, item_id)
        try:
            item = decode_json(body, _Item)
        except msgspec.ValidationError as error:
            # msgspec names types and field names, never values
            return BadBody(reason=f"the item's body has an unexpected form: {error}")
        except (ValueError, RecursionError):
            return BadBody(reason="the item's body is not JSON" if body else "the item's body is empty")
        if item.item_id != item_id and item.item_id.casefold() != item_id.casefold():
            return BadBody(reason="the body is about another item than requested")
        status = self._table.read(item.status)
        if status is None:
            return BadBody(reason="the item's status is blank")
        return Meaning.NOT_FOUND if status.state is _NOT_FOUND else status

    def list_reader(self, page: Request, listing: Listing) -> ListReader:
        """Reads the array as it arrives."""
        return _ListReader(self._table, listing) if self._fast_list else super().list_reader(page, listing)


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

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | Meaning | None:  # noqa: ARG002  # ListReader's signature
        """None at the end of the list, which has one page; or why it can't be used."""
        self._add_to_listing(self._array.finish())
        if self._array.error is not None:
            return BadBody(reason=self._array.error)
        if self._array.unreadable > self._array.readable:
            return BadBody(reason="most rows of the list have no text as item_id and status")
        return None

    def _add_to_listing(self, rows: Sequence[_ListRow]) -> None:
        by_status = defaultdict[str, list[str]](list)
        for row in rows:
            by_status[row.status].append(row.item_id)
        for status, item_ids in by_status.items():
            self._listing.add_alike(self._statuses.read(status), map(str.lower, item_ids))
