"""The tables of what the last sync and the last comparison with a list saw. With them `metadata` has all tables."""

from sqlalchemy import JSON, Column, Integer, LargeBinary, String, Table, Text

from monitor.database.fleet_tables import metadata as metadata  # noqa: PLC0414  # from here it is complete
from monitor.database.tables import UtcDateTime

sync_logs = Table(
    "sync_logs",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("copied_at", UtcDateTime, nullable=False),  # when all rows were last merged, whatever was known of them
    Column("tracked", Integer, nullable=False),  # distinct ids in the log, which are the items that are not removed
    Column("duplicate", Integer, nullable=False),  # further rows with an id
    Column("duplicate_ids", JSON, nullable=False),  # the first of them
    Column("shared", Integer, nullable=False),  # ids with rows in several pages
    Column("shared_ids", JSON, nullable=False),  # these, unless there are many
    Column("canaries", Integer, nullable=False),  # ids in the log that are documents of canaries
    Column("canary_ids", JSON, nullable=False),  # these, unless there are many
    Column("file", Text),  # what changes when a SQLite file is written, as of the last read; null: no such file
    Column("file_read_at", UtcDateTime),
    Column("watermark", JSON(none_as_null=True)),  # of the last merge, with `updated_at_column`: see `synclog/pages.py`
)
"""What the last sync of each target saw, for the next one. It is written with the items, so that they always agree."""

sync_log_pages = Table(
    "sync_log_pages",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("page", String(512), primary_key=True),  # its key: see `synclog/pages.py`
    Column("digest", LargeBinary, nullable=False),
    Column("rows", Integer, nullable=False),
    # at other times a time of the page would be in the future, or no longer: both null for a page without times
    Column("valid_from", UtcDateTime),
    Column("valid_until", UtcDateTime),
    Column("counts", Text),  # a JSON object of what can't be used and of duplicates; null: there is none
    Column("item_ids", Text, nullable=False),  # its usable ids, one per line
)
"""The pages of a sync log as they were merged; a page that is the same is not merged again."""

compared_lists = Table(
    "compared_lists",
    metadata,
    Column("target", String(200), primary_key=True),
    Column("digest", LargeBinary, nullable=False),  # of the list, and of the ids that are not settled
    Column("compared_at", UtcDateTime, nullable=False),
)
"""The last list of each target that confirmed all its settled items: see `runs/compared_lists.py`."""
