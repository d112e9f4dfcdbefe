"""Huey's SQLite storage: one task per document."""

from documents import DOCUMENTS, SQLITE_PATH
from huey import SqliteHuey

queue = SqliteHuey(filename=SQLITE_PATH)


@queue.task()
def upload(item_id):
    return item_id


for each in DOCUMENTS:
    upload(each.id)
