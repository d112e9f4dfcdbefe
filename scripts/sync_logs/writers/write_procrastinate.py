"""Procrastinate: one job per document, done by a worker; one that failed."""

import asyncio
import logging

import procrastinate
from documents import DELETED, DOCUMENTS, URL, record

logging.disable(logging.CRITICAL)
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=URL))


@app.task(queue="uploads", name="upload")
def upload(item_id):
    if item_id in {each.id for each in DELETED}:
        raise ValueError


async def write():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for each in (*DOCUMENTS, *DELETED):
            await upload.defer_async(item_id=each.id)
        await app.run_worker_async(wait=False, install_signal_handlers=False)


asyncio.run(write())
record([(each.id,) for each in DOCUMENTS])
