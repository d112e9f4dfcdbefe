"""How to ask an API for items and how to read its answers: one module per API. The one import for plugin authors.

Nothing here sends, retries or stores. `registry` lists the built-in providers and finds installed ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from monitor.errors import ConfigError
from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Operation, Request
from monitor.providers.listing import Listing, ListReader
from monitor.providers.statuses import StatusTable

__all__ = [
    "BadBody",
    "ConfigError",
    "ItemState",
    "ItemStatus",
    "ListReader",
    "Listing",
    "Operation",
    "Provider",
    "ProviderSettings",
    "Request",
    "StatusTable",
]


class Provider(Protocol):
    """What the monitor needs to know about one API.

    Its errors are taken to be JSON: a 4xx with any other text is a gateway's. A provider whose API itself answers
    errors in plain text or HTML has one more attribute, `text_errors = True`.
    """

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def token_path(self) -> str | None:
        """Path of its OAuth2 token endpoint; None if it has none."""

    @property
    def token_scope(self) -> str:
        """The scope of a token request; empty for none."""

    def valid_id(self, item_id: str) -> bool:
        """Whether the API could accept this id; no request is sent for any other."""

    def item_request(self, item_id: str) -> Request:
        """The request for one item, with its id escaped so that it can change neither path nor host."""

    def read_item(self, body: bytes, item_id: str) -> ItemStatus | BadBody:
        """The item's status in the body of a 200, or why the body can't be used. Never raises."""

    def canonical(self, item_id: str) -> str:
        """The spelling of an id in `list_reader`: the same for all spellings that the API takes for one item."""

    def list_request(self) -> Request | None:
        """The request for the first page of the list of all items; None if the API has no list."""

    def list_reader(self, page: Request, listing: Listing) -> ListReader:
        """A reader that adds the answer to a page's request to `listing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What a target's configuration says about its API."""

    target: str
    base_url: str
    """Without a trailing slash; may have a path. Relative request paths are appended to it."""
    publisher_id: str | None = None
    """The publisher (tenant) of the items, if the API has such a thing."""
    statuses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Statuses by state (`completed`, `pending`, `failed`). They win over the provider's own table."""
    list_max_bytes: int = 1 << 30
    """The most decoded bytes that are read of one page of the list."""
    options: Mapping[str, object] = field(default_factory=dict)
    """The target's own tables as plain JSON values: `item` and `list` for `generic`, `options` for an entry point."""
