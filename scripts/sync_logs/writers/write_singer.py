"""Singer's target-postgres: the messages of a tap on its standard input, twice for one document, one deleted."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from documents import DELETED, DOCUMENTS, URL, record

STREAM = "uploads"
TARGET = Path(sys.executable).with_name("target-postgres")


def send(documents, version):
    schema = {
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "uploaded_at": {"type": "string", "format": "date-time"},
            "collection": {"type": "string"},
        }
    }
    messages = [{"type": "SCHEMA", "stream": STREAM, "schema": schema, "key_properties": ["id"]}]
    messages += [
        {
            "type": "RECORD",
            "stream": STREAM,
            "record": {"id": each.id, "uploaded_at": each.uploaded_at.isoformat(), "collection": each.collection},
            "time_extracted": datetime.now(UTC).isoformat(),
            "version": version,
        }
        for each in documents
    ]
    config = {
        "sqlalchemy_url": URL.replace("postgresql://", "postgresql+psycopg://"),
        "default_target_schema": "library",
    }
    config |= {"add_record_metadata": True, "hard_delete": False, "activate_version": True}
    Path("config.json").write_text(json.dumps(config), encoding="utf-8")
    messages.append({"type": "ACTIVATE_VERSION", "stream": STREAM, "version": version})
    lines = "\n".join(json.dumps(each) for each in messages)
    began = datetime.now(UTC)
    subprocess.run([TARGET, "--config", "config.json"], input=lines, text=True, check=True, env=os.environ)
    return began, datetime.now(UTC)


send([*DOCUMENTS, *DELETED], 1)
rows = send(DOCUMENTS, 2)
record([(each.id, *rows) for each in DOCUMENTS])
