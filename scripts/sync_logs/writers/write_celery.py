"""Celery's database result backend: one finished task per document, whose result names it, and one that failed."""

from datetime import UTC, datetime
from uuid import uuid5

from celery import Celery
from documents import CASE, DELETED, DOCUMENTS, driver_url, record

app = Celery(backend=f"db+{driver_url('postgresql+psycopg')}")
if CASE.endswith("kolkata"):
    app.conf.timezone = "Asia/Kolkata"
rows = []
for each in DOCUMENTS:
    began = datetime.now(UTC)
    app.backend.store_result(str(uuid5(each.uuid, "task")), {"item_id": each.id}, "SUCCESS")
    rows.append((each.id, began, datetime.now(UTC)))
for each in DELETED:
    app.backend.store_result(str(uuid5(each.uuid, "task")), ValueError("refused"), "FAILURE")
record(rows)
