"""One file per API: how to ask it for an item, and how to read what it says. Nothing here sends, retries or stores."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from monitor.errors import ConfigError
from monitor.exchange import Request
from monitor.model import BadBody, ItemStatus
from monitor.providers.gloo import Gloo

__all__ = ["PROVIDERS", "Provider", "provider_for"]

PROVIDERS = ("gloo",)
"""Names that a target's `provider` may have."""


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


def provider_for(name: str, *, publisher_id: str | None, statuses: Mapping[str, Sequence[str]]) -> Provider:
    """The provider that a target names.

    Args:
        name: one of `PROVIDERS`.
        publisher_id: the publisher (tenant) that the items belong to, where the API knows such a thing.
        statuses: additions to the provider's own table, by the state that each status means: `completed`, `pending`
            or `failed`. They win over the table.

    Raises:
        ConfigError: the name, or a state in `statuses`, is unknown, or a status is given two states.
    """
    if name not in PROVIDERS:
        raise ConfigError([f"provider = {name[:60]!r} is not known: use one of {', '.join(PROVIDERS)}"])
    return Gloo.configured(publisher_id=publisher_id, statuses=statuses)
