"""Reads one page of a described list while it arrives: rows, what follows the page, or what the page means. Pure.

An array is read row by row: what is kept of a page is one row, and the body without the rows. An object with the ids as
keys is read whole.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from monitor.model import BadBody, ItemStatus
from monitor.model.http import Meaning, Request
from monitor.providers.json_stream import JsonArrayReader
from monitor.providers.listing import Listing, ListReader
from monitor.providers.meanings import Meanings, decoded_body
from monitor.providers.pagination import PageRequest, PageRule, next_page
from monitor.providers.paths import JsonPath, scalar_text
from monitor.providers.status_reader import StatusReader, reports_error
from monitor.providers.statuses import fold_word

_MAX_HEAD_BYTES = 1 << 16
"""Of a page without rows: enough to say what is wrong with it."""
_MAX_KEYED_BYTES = 64 << 20
"""An object with the ids as keys is decoded whole, at several times its size."""
_WHAT = "a page of the list"


class ListRows(msgspec.Struct, frozen=True, kw_only=True):
    """Where a described list has its rows, and how each is read."""

    items: str
    id: JsonPath | None
    """Where a row has its id; None: the rows are the values of an object, and the ids its keys."""
    statuses: StatusReader
    page: PageRule
    meanings: Meanings
    base_url: str
    unsettled: frozenset[str]
    """Folded statuses that a second question settles: such an item is asked about, whatever its state here."""
    canonical: Callable[[str], str] | None
    """The spelling of ids in a listing; None: as they are."""

    def reader(self, page: PageRequest, listing: Listing) -> ListReader:
        """A reader of one page."""
        return KeyedPageReader(self, page, listing) if self.id is None else PageReader(self, page, listing, self.id)

    def read(self, item_id: str, row: object) -> tuple[str, ItemStatus | None]:
        """The id and the status of a row; None: it can't be read, or does not settle the item's state."""
        if self.canonical is not None:
            item_id = self.canonical(item_id)
        status = self.statuses.read(row)
        if isinstance(status, ItemStatus) and not (self.unsettled and fold_word(status.stage) in self.unsettled):
            return item_id, status
        return item_id, None

    def following(
        self, page: PageRequest, envelope: object, *, count: int, known: int, headers: Mapping[str, str]
    ) -> Request | BadBody | Meaning | None:
        """What follows a page, or what its body says instead."""
        if self.meanings and (meaning := self.meanings.read_decoded(envelope)) is not None:
            return meaning
        return next_page(
            self.page, page, body=envelope, count=count, known=known, headers=headers, base_url=self.base_url
        )


class PageReader:
    """A page with an array of rows."""

    def __init__(self, rows: ListRows, page: PageRequest, listing: Listing, row_id: JsonPath) -> None:
        self._rows, self._page, self._listing, self._id = rows, page, listing, row_id
        self._array: JsonArrayReader[Any] = JsonArrayReader(object, path=rows.items)
        self._received = self._count = 0
        self._head = bytearray()
        self._problem: str | None = None

    def feed(self, piece: bytes) -> bool:
        """Reads the rows that are complete with this piece; False if the rest need not be read."""
        if len(self._head) < _MAX_HEAD_BYTES:
            self._head += piece[:_MAX_HEAD_BYTES]
        self._received += len(piece)
        if self._received > self._page.max_bytes:
            self._problem = f"{_WHAT} is larger than {self._page.max_bytes} bytes"
        self._add_to_listing(self._array.feed(piece))
        return self._problem is None and self._array.error is None

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | Meaning | None:
        """Adds the last rows and returns what follows the page."""
        if self._problem is None:
            self._add_to_listing(self._array.finish())
        if self._problem is not None:
            return BadBody(reason=self._problem)
        if self._array.error is not None:
            return self._without_array()
        envelope = decoded_body(self._array.envelope, _WHAT)
        if isinstance(envelope, BadBody):
            return envelope
        return self._rows.following(self._page, envelope, count=self._count, known=len(self._listing), headers=headers)

    def _without_array(self) -> BadBody | Meaning:
        """Why there is no array of rows, or what the body says instead."""
        if self._array.started or self._received > len(self._head):
            return BadBody(reason=f"{_WHAT} can't be read: {self._array.error}")
        decoded = decoded_body(bytes(self._head), _WHAT)
        if isinstance(decoded, BadBody):
            return decoded
        where = f"has no array at {self._rows.items!r}" if self._rows.items else "is not an array"
        return self._rows.meanings.read_decoded(decoded) or BadBody(reason=f"{_WHAT} {where}")

    def _add_to_listing(self, rows: Sequence[Any]) -> None:
        self._count += len(rows)
        find, read, found = self._id.find, self._rows.read, []
        for row in rows:
            value = find(row)
            item_id = value if isinstance(value, str) else scalar_text(value)
            if not item_id:
                self._problem = self._problem or f"an item of the list has no id at {self._id.text!r}"
                return
            found.append(read(item_id, row))
        self._listing.add(found)


class KeyedPageReader:
    """A page with an object whose keys are the ids."""

    def __init__(self, rows: ListRows, page: PageRequest, listing: Listing) -> None:
        self._rows, self._page, self._listing = rows, page, listing
        self._body = bytearray()
        self._max_bytes = min(page.max_bytes, _MAX_KEYED_BYTES)

    def feed(self, piece: bytes) -> bool:
        """Keeps the piece; False if the page is too large."""
        self._body += piece
        return len(self._body) <= self._max_bytes

    def finish(self, headers: Mapping[str, str]) -> Request | BadBody | Meaning | None:
        """Reads the page and returns what follows it."""
        if len(self._body) > self._max_bytes:
            return BadBody(reason=f"{_WHAT} is larger than {self._max_bytes} bytes")
        decoded = decoded_body(bytes(self._body), _WHAT)
        if isinstance(decoded, BadBody):
            return decoded
        if self._rows.meanings and (meaning := self._rows.meanings.read_decoded(decoded)) is not None:
            return meaning
        rows = JsonPath(self._rows.items).find(decoded)
        if not isinstance(rows, dict) or (rows is decoded and reports_error(decoded)):
            return BadBody(reason=f"{_WHAT} has no object of items at {self._rows.items!r}")
        self._listing.add(self._rows.read(item_id, row) for item_id, row in rows.items() if item_id)
        return self._rows.following(self._page, decoded, count=len(rows), known=len(self._listing), headers=headers)
