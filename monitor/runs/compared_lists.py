"""The last list that confirmed all settled items of a target: while it stays the same, it need not be compared again.

It is known by a digest of what the list says, of the items that are not settled, and of how ids are spelled. An item
that is in the work list and is not among those is settled (`completions`). Rows of the work list are never deleted, and
their number is part of the digest; so the same digest means the same settled items.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from monitor import __version__
from monitor.database.engine import insert
from monitor.database.sync_tables import compared_lists
from monitor.providers import Listing, Provider, has_uuid_ids
from monitor.providers.id_set import DIGEST_BYTES

COMPARE_EVERY = timedelta(days=1)
"""All settled items are compared at least this often, whatever is known of the list."""


def digest(listing: Listing, unsettled: Iterable[str], provider: Provider, *, rows: int) -> bytes | None:
    """The digest of a list beside the ids that are not settled, of so many rows; None if the list has none."""
    listed = listing.digest()
    if listed is None:
        return None
    spelling = type(provider).__module__, type(provider).__qualname__, provider.name, has_uuid_ids(provider)
    parts = __version__, spelling, listed, sorted(unsettled), rows
    return hashlib.blake2b(repr(parts).encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()


def is_known(conn: Connection, *, target: str, digest: bytes, now: datetime) -> bool:
    """Whether this list was found to confirm all settled items, less than a day ago."""
    known = compared_lists.c
    row = conn.execute(select(known.digest, known.compared_at).where(known.target == target)).one_or_none()
    return row is not None and row[0] == digest and row[1] <= now < row[1] + COMPARE_EVERY


def store(conn: Connection, *, target: str, digest: bytes, now: datetime) -> None:
    """Stores that this list confirms all settled items, in place of what was known."""
    values = {"digest": digest, "compared_at": now}
    row = insert(conn, compared_lists).values(target=target, **values)
    conn.execute(row.on_conflict_do_update(index_elements=[compared_lists.c.target], set_=values))
