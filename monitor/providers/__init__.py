"""How to ask an API for items and how to read its answers. The one import for plugin authors.

An API is a description (`presets/NAME.toml`, or tables of the target) that `generic` interprets; `registry` finds it,
or an installed package. Nothing here sends, retries or stores.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from monitor.errors import ConfigError
from monitor.model import BadBody, ItemState, ItemStatus
from monitor.model.http import Meaning, Operation, Request
from monitor.providers.listing import Listing, ListReader
from monitor.providers.statuses import StatusTable, Word

__all__ = [
    "BadBody",
    "ConfigError",
    "FollowUp",
    "ItemState",
    "ItemStatus",
    "ListReader",
    "Listing",
    "Meaning",
    "Operation",
    "Provider",
    "ProviderSettings",
    "Request",
    "StatusTable",
    "has_uuid_ids",
    "is_list_only",
    "request_for",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """The answer to the item question does not settle the state: a second question does."""

    request: Request
    """Its answer is read by `Provider.read_follow_up`."""


class Provider(Protocol):
    """What the monitor needs to know about one API.

    Its errors are taken to be JSON: a 4xx with any other text is a gateway's. A provider may have more members; those
    that it lacks are read as absent:

    `text_errors: bool`: the API itself answers errors in plain text or HTML.
    `uuid_ids: bool`: its ids are UUIDs; other spellings of one in a sync log are normalised.
    `read_meaning(status: int, body: bytes) -> Meaning | None`: what a complete answer of any status means, if its
        description says so; None: what the status says. Never raises. The attribute itself is None if no answer means
        anything else, so that no body is read for it. `NOT_FOUND` is what a 404 would be, on the list as well.
    `read_follow_up(body: bytes, item_id: str) -> ItemStatus | BadBody | Meaning`: reads the answer to a `FollowUp`.
    `batch_size: int`: how many ids one request takes (default 1). Over 1 it also has
        `batch_request(item_ids: Sequence[str]) -> Request` and
        `read_batch(body: bytes, item_ids: Sequence[str]) -> Mapping[str, ItemStatus | BadBody | Meaning]`, which has a
        value for each id. An id that a complete answer leaves out is `NOT_FOUND` only if the description says so. Ask
        in smaller batches if the request's path is not valid: a URL has a limit.
    `list_only: bool`: the API has no question for one item; its list answers for all, and an item that is not in it is
        not found. `Listing` then keeps the status of every item.
    `canary_requests() -> CanaryRequests | None`: how a canary uploads a document, retrieves a piece of it and deletes
        it (`monitor.providers.canary`); None, or no such member: it can't.
    `request_for(item_id: str, params: Mapping[str, str]) -> Request`: `item_request` with parameters of that row, which
        win over the target's. Raises ValueError, with a sentence, if one is missing or can't be sent.
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

    def read_item(self, body: bytes, item_id: str) -> ItemStatus | BadBody | Meaning | FollowUp:
        """The item's status in the body of a 2xx, why the body can't be used, or what it means instead. Never raises.

        Of the meanings only `Meaning.NOT_FOUND` is used here; causes come from `read_meaning`.
        """

    def canonical(self, item_id: str) -> str:
        """The spelling of an id in `list_reader`: the same for all spellings that the API takes for one item."""

    def list_request(self) -> Request | None:
        """The request for the first page of the list of all items; None if the API has no list."""

    def list_reader(self, page: Request, listing: Listing) -> ListReader:
        """A reader that adds the answer to a page's request to `listing`."""


def is_list_only(provider: Provider) -> bool:
    """Whether the API has no question for one item: its list answers for all."""
    return getattr(provider, "list_only", False) is True


def has_uuid_ids(provider: Provider) -> bool:
    """Whether the provider says that its ids are UUIDs."""
    return getattr(provider, "uuid_ids", False) is True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """What a target's configuration says about its API."""

    target: str
    base_url: str
    """Without a trailing slash; may have a path. Relative request paths are appended to it."""
    publisher_id: str | None = None
    """The publisher (tenant) of the items, if the API has such a thing; also the parameter of that name."""
    params: Mapping[str, str] = field(default_factory=dict)
    """What placeholders of the provider's paths and bodies stand for, by name."""
    row_params: Collection[str] = ()
    """Names of parameters that each row of the sync log may give, for `request_for`."""
    statuses: Mapping[str, Sequence[Word]] = field(default_factory=dict)
    """Statuses by state (`completed`, `pending`, `failed`, `not_found`). They win over the provider's own table."""
    item_max_bytes: int = 1 << 20
    """The most decoded bytes that are read of the answer about one item."""
    list_max_bytes: int = 1 << 30
    """The most decoded bytes that are read of one page of the list."""
    options: Mapping[str, object] = field(default_factory=dict)
    """The target's own tables as plain JSON values: a description's `item`, `list`, `errors`, `headers` and `uuid_ids`,
    or the `options` of an entry point.
    """


def request_for(provider: Provider, item_id: str, params: Mapping[str, str]) -> Request:
    """The request for one item, with the path parameters of its row, if there are any.

    A provider without `request_for` has a fixed path: the parameters are not used.
    """
    own = getattr(provider, "request_for", None) if params else None
    request: Request = own(item_id, params) if own is not None else provider.item_request(item_id)
    return request
