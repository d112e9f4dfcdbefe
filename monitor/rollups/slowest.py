"""Names the few uploads of each day that took the longest to be indexed (table `slowest_uploads`), for reports."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Float, RowMapping, String, delete, insert, select

from monitor.database.bulk import RowSet
from monitor.database.lookups import TARGETS
from monitor.database.tables import slowest_uploads
from monitor.rollups.bounds import slot_start

NAMED = 5
"""Uploads of a day that are named."""
_DAY = timedelta(days=1)
_rows = slowest_uploads.c


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedUpload:
    """An upload and how long it took until it was seen completed."""

    item_id: str
    group: str | None
    took_s: float
    indexed_at: datetime

    @property
    def uploaded_at(self) -> datetime:
        """When it was uploaded."""
        return self.indexed_at - timedelta(seconds=self.took_s)


def name_slowest(conn: Connection, *, target: str, uploads: Iterable[IndexedUpload]) -> None:
    """Keeps the slowest uploads of each day, these among them, in the transaction that counts them."""
    by_day = defaultdict[datetime, list[IndexedUpload]](list)
    for upload in uploads:
        by_day[slot_start(upload.uploaded_at, _DAY)].append(upload)
    for day, found in sorted(by_day.items()):
        of_day = (_rows.target == target, _rows.starts_at == day)
        before = [_upload(row) for row in conn.execute(select(slowest_uploads).where(*of_day)).mappings()]
        again = {upload.item_id for upload in found}  # one may be indexed anew, after its row was lost
        kept = _slowest([*(upload for upload in before if upload.item_id not in again), *found], NAMED)
        added = [upload for upload in kept if upload not in before]
        if not added:
            continue
        if dropped := [upload.item_id for upload in before if upload not in kept]:
            conn.execute(delete(slowest_uploads).where(*of_day, _rows.item_id.in_(dropped)))
        conn.execute(insert(slowest_uploads), [_row(target, day, upload) for upload in added])


_LONG = RowSet("long", target=String(), least_s=Float())


def slowest(
    conn: Connection, *, targets: Sequence[str], since: datetime, until: datetime, limit: int
) -> dict[str, list[IndexedUpload]]:
    """By target the uploads from `since` to before `until` that took the longest, at most `limit` (> 0, to `NAMED`)."""
    days = (_rows.starts_at >= slot_start(since, _DAY), _rows.starts_at < until)
    # the first day and the last may name as many of before and after the period
    longest = select(_rows.took_s).where(_rows.target == TARGETS.c.target, *days).order_by(_rows.took_s.desc())
    least = longest.limit(1).offset(limit + 2 * NAMED - 1).correlate(TARGETS.table).scalar_subquery()
    # found first, and in a statement of its own: a year names thousands, which need not be sorted
    least_s = conn.execute(select(TARGETS.c.target, least), TARGETS.of(conn, [(each,) for each in targets])).all()
    query = select(slowest_uploads).join_from(_LONG.table, slowest_uploads, _rows.target == _LONG.c.target)
    query = query.where(*days, _rows.took_s >= _LONG.c.least_s)
    first = query.order_by(_rows.target, _rows.took_s.desc(), _rows.item_id)
    rows = conn.execute(first, _LONG.of(conn, [(target, least or 0.0) for target, least in least_s]))
    found: dict[str, list[IndexedUpload]] = {target: [] for target in targets}
    for row in rows.mappings():
        upload = _upload(row)
        if since <= upload.uploaded_at < until and len(found[row["target"]]) < limit:
            found[row["target"]].append(upload)
    return found


def _slowest(uploads: Iterable[IndexedUpload], limit: int) -> list[IndexedUpload]:
    return sorted(uploads, key=lambda upload: (-upload.took_s, upload.item_id))[:limit]


def _row(target: str, day: datetime, upload: IndexedUpload) -> dict[str, object]:
    values = asdict(upload)
    return {"target": target, "starts_at": day, "group_name": values.pop("group"), **values}


def _upload(values: RowMapping) -> IndexedUpload:
    return IndexedUpload(
        item_id=values["item_id"], group=values["group_name"], took_s=values["took_s"], indexed_at=values["indexed_at"]
    )
