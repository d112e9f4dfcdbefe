"""Gloo's tutorial "RAG pipeline, part 3" in six steps: errors, retries, upload, verification, clean-up.

ingestion-monitor sandbox &
python examples/upload_and_wait.py [monitor.toml]
"""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from uuid import uuid4

from monitor.api import ApiError, File, Operation, connect

CONFIG = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("monitor.toml")
ITEM, FILES = "/engine/v2/items/{item_id}", "/ingestion/v2/files"


async def main() -> None:
    async with connect(CONFIG, "sandbox") as engine:
        print("Step 1: the resilient client is ready")
        for what, item_id in {"missing item": str(uuid4()), "malformed id": "not-a-uuid"}.items():
            try:
                await engine.request("GET", ITEM, params={"item_id": item_id})
            except ApiError as error:
                print(f"Step 2: {what}: status={error.status} code={error.code!r} message={error.message!r}")
        await engine.request("POST", "/_sandbox/faults", json={"path": "/engine", "status": 503, "count": 2})
        listed = await engine.request("GET", "/engine/v2/publisher/{publisher_id}/items")
        print(f"Step 3: the list came after {listed.attempts} attempts")
        ids: list[str] = []
        try:
            for name in ("letter.txt", "sermon.txt"):
                upload = {"files": File(name=name, content=f"about {name} {uuid4()}".encode())}
                answer = await engine.request("POST", FILES, form=dict(engine.params), files=upload)
                ids += answer.json()["ingesting"]
            waited = await engine.wait(ids, timeout="2m")
            print(f"Step 4: {len(ids)} uploaded, {waited.result} after {waited.duration.total_seconds():.0f} s")
            counts = Counter(item.state for item in await engine.get([*ids, str(uuid4())]))
            print("Step 5: Health:", ", ".join(f"{count} {state.label}" for state, count in counts.items()))
        finally:
            if ids:
                deleted = await engine.request(
                    "DELETE", "/engine/v2/items", operation=Operation.CLOSE, json={"item_ids": ids}
                )
                print(f"Step 6: cleaned up {deleted.json()['total_deleted']} items")


asyncio.run(main())
