"""LangChain's indexing API with SQLRecordManager: each document is cut into two chunks, and indexed twice."""

from datetime import UTC, datetime

from documents import DOCUMENTS, driver_url, record
from langchain_classic.indexes import SQLRecordManager, index
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

manager = SQLRecordManager("gloo/library", db_url=driver_url("postgresql+psycopg"))
manager.create_schema()
store = InMemoryVectorStore(DeterministicFakeEmbedding(size=4))
rows = []
for each in (*DOCUMENTS, *DOCUMENTS):
    chunks = [Document(f"{part} of {each.id}", metadata={"source": each.id}) for part in ("first", "second")]
    began = datetime.now(UTC)
    index(chunks, manager, store, cleanup="incremental", source_id_key="source", key_encoder="sha256")
    rows.append((each.id, began, datetime.now(UTC)))
record(rows[len(DOCUMENTS) :])  # the second time moved what the first had written
