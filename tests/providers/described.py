"""Descriptions for tests: an API whose item and list are described in a few keys."""

import json

from monitor.providers import Listing, ProviderSettings
from monitor.providers.generic import Generic

STATUSES = {"completed": ["ready"], "pending": ["working"], "failed": ["broken"], "not_found": ["GONE"]}
ITEM = {"path": "/documents/{item_id}"}


def settings(*, statuses=None, params=None, row_params=(), publisher_id=None, **options):
    return ProviderSettings(
        target="docs",
        base_url="https://api.example.com/base",
        publisher_id=publisher_id,
        params=params or {},
        row_params=row_params,
        statuses=STATUSES if statuses is None else statuses,
        options=options,
    )


def described(*, item=ITEM, **more):
    """A provider with an item question, unless `item` is None."""
    return Generic.from_settings(settings(**({} if item is None else {"item": {**ITEM, **item}}), **more))


def encoded(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def read_page(provider, body, *, listing=None, pieces=1):
    """Reads the first page of the list; what follows it, and the listing."""
    listing = Listing() if listing is None else listing
    reader, raw = provider.list_reader(provider.list_request(), listing), encoded(body)
    step = max(1, -(-len(raw) // pieces))
    for start in range(0, len(raw), step):
        if not reader.feed(raw[start : start + step]):
            break
    return reader.finish({}), listing
