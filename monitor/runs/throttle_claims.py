"""Stores who uses the limits of one credential now, and what these processes tell each other. Unused without workers.

A process that has not been seen for the stall time is dead to the others. It decides nothing: see `client/parts`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import Connection, and_, delete, select

from monitor.database.engine import in_chunks, insert
from monitor.database.fleet_tables import throttle_claims


class StoredCut(msgspec.Struct, frozen=True, kw_only=True):
    """What a refusal taught (`client/rate`), with its time by the clock of leases."""

    at: datetime
    initial_per_s: float
    plateau_per_s: float
    recovery_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A process's use of the limits under one key (see `throttle_store`)."""

    key: str
    holder: str
    """As `host:pid`."""
    weight: int
    """Runs and shares that use them there; 0: it has ended, but what it told still counts."""
    part: float
    """What it takes of them now (0 to 1)."""
    opened_at: datetime | None = None
    """When its breaker opened; None: it is closed."""
    cut: StoredCut | None = None
    """The newest that it knows."""
    accepted: int = 0
    """Its requests so far that were accepted."""
    refused: int = 0
    """And those that a 503 without a hint refused."""


def read(conn: Connection, *, keys: Sequence[str], holder: str, since: datetime) -> Mapping[str, Sequence[Claim]]:
    """The claims of other holders under these keys that were seen since then, by key."""
    table, found = throttle_claims, defaultdict[str, list[Claim]](list)
    for chunk in in_chunks(keys):
        live = and_(table.c.key.in_(chunk), table.c.holder != holder, table.c.seen_at > since)
        for row in conn.execute(select(table).where(live).order_by(table.c.key, table.c.holder)):
            cut = StoredCut(at=row.cut_at, **row.cut) if row.cut_at is not None else None
            found[row.key].append(
                Claim(
                    key=row.key,
                    holder=row.holder,
                    weight=row.weight,
                    part=row.part,
                    opened_at=row.opened_at,
                    cut=cut,
                    accepted=row.accepted,
                    refused=row.refused,
                )
            )
    return found


def write(conn: Connection, claims: Sequence[Claim], *, now: datetime) -> None:
    """Stores claims, each in place of an earlier one of its holder under its key; `now` is from `leases.lease_now`."""
    for chunk in in_chunks(claims):
        row = insert(conn, throttle_claims).values([_row(claim, now) for claim in chunk])
        names = ("weight", "part", "opened_at", "cut_at", "cut", "accepted", "refused", "seen_at")
        conn.execute(
            row.on_conflict_do_update(
                index_elements=[throttle_claims.c.key, throttle_claims.c.holder],
                set_={name: row.excluded[name] for name in names},
            )
        )


def release(conn: Connection, *, key: str, holder: str) -> None:
    """Deletes a claim: what it took is free."""
    table = throttle_claims
    conn.execute(delete(table).where(table.c.key == key, table.c.holder == holder))


def forget_dead(conn: Connection, *, before: datetime) -> int:
    """Deletes the claims that were not seen since then; returns how many."""
    return conn.execute(delete(throttle_claims).where(throttle_claims.c.seen_at <= before)).rowcount


def _row(claim: Claim, now: datetime) -> dict[str, object]:
    cut = claim.cut
    return {
        "key": claim.key,
        "holder": claim.holder,
        "weight": claim.weight,
        "part": claim.part,
        "opened_at": claim.opened_at,
        "cut_at": cut.at if cut else None,
        "cut": {"initial_per_s": cut.initial_per_s, "plateau_per_s": cut.plateau_per_s, "recovery_s": cut.recovery_s}
        if cut
        else None,
        "accepted": claim.accepted,
        "refused": claim.refused,
        "seen_at": now,
    }
