"""Open WebUI's own model of uploaded files, without its server (whose dependencies would take gigabytes)."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from documents import DOCUMENTS, URL, record

os.environ |= {
    "DATA_DIR": str(Path.cwd()),
    "DATABASE_URL": URL,
    "ENABLE_DB_MIGRATIONS": "false",
    "WEBUI_SECRET_KEY": "of-this-test",
}

from open_webui.internal.db import Base, engine  # reads the environment
from open_webui.models.files import File, FileForm, Files  # the same

USER = "00000000-0000-4000-8000-0000000000ff"


async def write():
    Base.metadata.create_all(engine, tables=[File.__table__])
    rows = []
    for each in DOCUMENTS:
        began = datetime.now(UTC) - timedelta(seconds=1)  # whole seconds are stored
        form = FileForm(id=each.id, filename="text.txt", path="text.txt", meta={"collection": each.collection})
        await Files.insert_new_file(USER, form)
        rows.append((each.id, began, datetime.now(UTC)))
    record(rows)


asyncio.run(write())
