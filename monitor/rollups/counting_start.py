"""Since when a target's uploads are counted: histograms begin with the first upload whose time to indexed is known.

Before that, what had been completed is not known, while what failed or never arrived still stands in the work list:
shares of such a time would show nothing but failures. It is so after a first look at an old sync log, and after the
upgrade to revision 0013.
"""

from datetime import datetime

from sqlalchemy import Connection, select, union_all

from monitor.database.tables import time_to_indexed
from monitor.rollups.bounds import SLOTS

_rows = time_to_indexed.c


def counted_since(conn: Connection, *, target: str) -> datetime | None:
    """Start of the slot of the first upload whose time to indexed is known; None if there is none yet."""
    first_of_each = [
        select(_rows.starts_at)
        .where(_rows.target == target, _rows.slot_s == int(width.total_seconds()), _rows.le_ms >= 0)
        .order_by(_rows.starts_at)
        .limit(1)
        .subquery()
        for width in SLOTS
    ]
    starts = union_all(*(select(each.c.starts_at) for each in first_of_each))
    return min(conn.execute(starts).scalars(), default=None)
