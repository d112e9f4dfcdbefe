"""Airflow: one mapped task per document, whose result names it, run by `airflow dags test`."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from documents import DOCUMENTS, URL, record

Path("dags").mkdir()
Path("dags/library.py").write_text(
    f"""
from airflow.sdk import dag, task


@dag(dag_id="library", schedule=None)
def library():
    @task
    def upload(item_id):
        return {{"item_id": item_id}}

    upload.expand(item_id={json.dumps([each.id for each in DOCUMENTS])})


library()
""",
    encoding="utf-8",
)
os.environ |= {
    "AIRFLOW_HOME": str(Path.cwd()),
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path.cwd() / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": URL,
}
AIRFLOW = Path(sys.executable).with_name("airflow")
subprocess.run([AIRFLOW, "db", "migrate"], check=True)
began = datetime.now(UTC)
subprocess.run([AIRFLOW, "dags", "test", "library"], check=True)
record([(each.id, began, datetime.now(UTC)) for each in DOCUMENTS])
