"""Piccolo: a table with a UUID and a Timestamptz."""

import asyncio
from urllib.parse import urlsplit

from documents import DOCUMENTS, POSTGRES, SQLITE_PATH, URL
from piccolo.columns import UUID, Timestamptz, Varchar
from piccolo.table import Table

if POSTGRES:
    from piccolo.engine.postgres import PostgresEngine

    parts = urlsplit(URL)
    config = {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "database": parts.path[1:],
    }
    engine = PostgresEngine(config=config, extensions=())
else:
    from piccolo.engine.sqlite import SQLiteEngine

    engine = SQLiteEngine(path=SQLITE_PATH)


class Upload(Table, db=engine, tablename="upload"):
    api_id = UUID(unique=True)
    uploaded_at = Timestamptz()
    collection = Varchar(length=40)


async def write():
    await Upload.create_table()
    rows = [Upload(api_id=each.uuid, uploaded_at=each.uploaded_at, collection=each.collection) for each in DOCUMENTS]
    await Upload.insert(*rows)


asyncio.run(write())
