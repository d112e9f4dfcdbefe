"""Pony: an entity with a UUID as its key."""

from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

from documents import DOCUMENTS, POSTGRES, SQLITE_PATH, URL
from pony import orm

database = orm.Database()


class Upload(database.Entity):
    id = orm.PrimaryKey(UUID)
    uploaded_at = orm.Required(datetime)
    collection = orm.Required(str)


if POSTGRES:
    parts = urlsplit(URL)
    database.bind(
        provider="postgres",
        user=parts.username,
        password=parts.password,
        host=parts.hostname,
        port=parts.port,
        database=parts.path[1:],
    )
else:
    database.bind(provider="sqlite", filename=SQLITE_PATH, create_db=True)
database.generate_mapping(create_tables=True)
with orm.db_session:
    for each in DOCUMENTS:
        naive = each.uploaded_at.astimezone(UTC).replace(tzinfo=None)
        Upload(id=each.uuid, uploaded_at=naive, collection=each.collection)
