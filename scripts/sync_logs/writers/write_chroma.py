"""Chroma's persistent client: a document is added, another added and deleted."""

import shutil
from datetime import UTC, datetime, timedelta

import chromadb
from documents import DELETED, DOCUMENTS, SQLITE_PATH, record

client = chromadb.PersistentClient("chroma", chromadb.Settings(anonymized_telemetry=False))
collection = client.create_collection("library", embedding_function=None)
rows = []
for each in DOCUMENTS:
    began = datetime.now(UTC) - timedelta(seconds=1)  # whole seconds are stored
    collection.add([each.id], embeddings=[[0.1, 0.2]], metadatas=[{"collection": each.collection}])
    rows.append((each.id, began, datetime.now(UTC)))
collection.add([each.id for each in DELETED], embeddings=[[0.3, 0.4]])
collection.delete([each.id for each in DELETED])
shutil.copyfile("chroma/chroma.sqlite3", SQLITE_PATH)
record(rows)
