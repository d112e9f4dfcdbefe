"""Prefect: one flow run per document, with its id as a parameter, and one that fails; or the runs themselves."""

import os
from datetime import UTC, datetime
from pathlib import Path

from documents import CASE, DELETED, DOCUMENTS, SQLITE_PATH, record

os.environ |= {
    "PREFECT_HOME": str(Path.cwd()),
    "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{SQLITE_PATH}",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "200",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}

from prefect import flow, runtime  # reads the environment


@flow(name="upload", log_prints=False)
def upload(item_id: str):
    if item_id in {each.id for each in DELETED}:
        raise ValueError
    return str(runtime.flow_run.id)


runs = CASE.endswith("runs")
rows = []
for each in DOCUMENTS:
    began = datetime.now(UTC)
    run_id = upload(each.id)
    rows.append((run_id if runs else each.id, began, datetime.now(UTC)))
for each in () if runs else DELETED:
    upload(each.id, return_state=True)
record(rows)
