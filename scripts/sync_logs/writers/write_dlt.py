"""dlt: two loads that append; a document of the first is in the second, too."""

import os
from datetime import UTC, datetime

import dlt
from documents import DOCUMENTS, POSTGRES, SQLITE_PATH, URL, record

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
destination = dlt.destinations.postgres(URL) if POSTGRES else dlt.destinations.sqlalchemy(f"sqlite:///{SQLITE_PATH}")
pipeline = dlt.pipeline("library", destination=destination, dataset_name="library" if POSTGRES else "main")
rows = [{"item_id": each.id, "collection": each.collection} for each in DOCUMENTS]
loads = []
for part in (rows[:3], rows[2:]):
    began = datetime.now(UTC)
    pipeline.run(part, table_name="uploads", write_disposition="append")
    loads.append((began, datetime.now(UTC)))
record([(each.id, *loads[0 if position < 3 else 1]) for position, each in enumerate(DOCUMENTS)])
