"""PyAirbyte's PostgreSQL cache, from a source of our own: two syncs that append."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

SOURCE = """#!{python}
import json, sys, time
stream = {{"name": "uploads", "json_schema": {{"type": "object", "properties": {{
    "item_id": {{"type": "string"}}, "collection": {{"type": "string"}}}}}}, "supported_sync_modes": ["full_refresh"]}}
say = lambda **message: print(json.dumps(message), flush=True)
match sys.argv[1]:
    case "spec":
        say(type="SPEC", spec={{"connectionSpecification": {{"type": "object", "properties": {{}}}}}})
    case "check":
        say(type="CONNECTION_STATUS", connectionStatus={{"status": "SUCCEEDED"}})
    case "discover":
        say(type="CATALOG", catalog={{"streams": [stream]}})
    case "read":
        for row in json.load(open("rows.json")):
            now = int(time.time() * 1000)
            say(type="RECORD", record={{"stream": "uploads", "data": row, "emitted_at": now}})
"""


def write():
    os.environ |= {"AIRBYTE_OFFLINE_MODE": "1", "AIRBYTE_NO_UPDATE_CHECK": "1"}
    import airbyte as ab
    from airbyte.caches import PostgresCache
    from documents import DOCUMENTS, URL, record

    executable = Path("source-library").resolve()
    executable.write_text(SOURCE.format(python=sys.executable), encoding="utf-8")
    executable.chmod(0o755)
    parts = urlsplit(URL)
    cache = PostgresCache(
        host=parts.hostname,
        port=parts.port,
        username=parts.username,
        password=parts.password,
        database=parts.path[1:],
        schema_name="library",
    )
    source = ab.get_source("source-library", config={}, local_executable=executable)
    source.select_all_streams()
    syncs = []
    for documents in (DOCUMENTS[:3], DOCUMENTS[2:]):
        rows = [{"item_id": each.id, "collection": each.collection} for each in documents]
        Path("rows.json").write_text(json.dumps(rows), encoding="utf-8")
        began = datetime.now(UTC)
        source.read(cache=cache, write_strategy="append", force_full_refresh=True)
        syncs.append((began, datetime.now(UTC)))
    record([(each.id, *syncs[0 if position < 3 else 1]) for position, each in enumerate(DOCUMENTS)])


if __name__ == "__main__":
    write()
