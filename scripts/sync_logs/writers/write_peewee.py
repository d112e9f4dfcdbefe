"""Peewee: UUIDField, or BinaryUUIDField with a TimestampField of microseconds."""

from datetime import UTC
from urllib.parse import urlsplit

import peewee
from documents import CASE, DOCUMENTS, POSTGRES, SQLITE_PATH, URL

if POSTGRES:
    parts = urlsplit(URL)
    database = peewee.PostgresqlDatabase(
        parts.path[1:], user=parts.username, password=parts.password, host=parts.hostname, port=parts.port
    )
else:
    database = peewee.SqliteDatabase(SQLITE_PATH)
binary = CASE.endswith("binary")


class Upload(peewee.Model):
    id = peewee.BinaryUUIDField(primary_key=True) if binary else peewee.UUIDField(primary_key=True)
    uploaded_at = peewee.TimestampField(resolution=10**6, utc=True) if binary else peewee.DateTimeField()
    collection = peewee.CharField()

    class Meta:
        database = database


database.create_tables([Upload])
for each in DOCUMENTS:
    naive = each.uploaded_at.astimezone(UTC).replace(tzinfo=None)
    Upload.create(id=each.uuid, uploaded_at=naive, collection=each.collection)
database.close()
