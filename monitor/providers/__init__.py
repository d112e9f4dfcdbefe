"""One file per API: how to ask it for an item or for all of them, and how to read what it says.

Nothing here sends, retries or stores. `found` knows which providers there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from monitor.model import BadBody, ItemStatus
from monitor.model.http import Request
from monitor.providers.listing import Listing, ListReader

__all__ = ["ListReader", "Listing", "Provider", "ProviderSettings"]


class Provider(Protocol):
    """One API, as far as the monitor has to know it."""

    @property
    def name(self) -> str:
        """What configuration calls it."""
        ...

    @property
    def token_path(self) -> str | None:
        """Path of its OAuth2 token endpoint; None when it has none."""
        ...

    @property
    def token_scope(self) -> str:
        """The scope to ask a token for; empty for none."""
        ...

    def valid_id(self, item_id: str) -> bool:
        """Whether the API could accept this id; one that it can't costs no request."""
        ...

    def item_request(self, item_id: str) -> Request:
        """The request for one item, its id escaped so that it can change neither path nor host."""
        ...

    def read_item(self, body: bytes, item_id: str) -> ItemStatus | BadBody:
        """The item's status out of a 200's body, or why it can't be used. Never raises."""
        ...

    def canonical(self, item_id: str) -> str:
        """The one spelling under which `list_reader` files an id: what the API takes for the same item is the same."""
        ...

    def list_request(self) -> Request | None:
        """The request for the (first page of the) list of all items; None when the API has none."""
        ...

    def list_reader(self, page: Request, listing: Listing) -> ListReader:
        """Reads the answer to a page's request into `listing`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What a target's configuration says about its API, for the provider that it names."""

    target: str
    """The target's name, for sentences about what is wrong."""
    base_url: str
    """Without a trailing slash; it may have a path, to which relative request paths are appended."""
    publisher_id: str | None = None
    """The publisher (tenant) that the items belong to, where the API knows such a thing."""
    statuses: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Statuses by the state that each means: `completed`, `pending` or `failed`. They win over the provider's table."""
    list_max_bytes: int = 1 << 30
    """The most decoded bytes of one page of the list that are read."""
    options: Mapping[str, object] = field(default_factory=dict)
    """The target's own tables for this provider, as plain JSON values: for `generic` its `item` and `list`, for a
    provider from an entry point its `options`."""
