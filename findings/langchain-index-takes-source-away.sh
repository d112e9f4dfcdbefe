#!/usr/bin/env bash
# LangChain's index() (langchain-core 1.8.3) with a SQLRecordManager (langchain-classic 1.0.8) takes the source (group_id) away
# from each document of a batch that is there already and unchanged, and gives it back only when the vector store has taken the
# new documents of the batch. While those are embedded, the unchanged ones belong to no source. If the embedding fails once, they stay
# so until an index() with the same text succeeds: the cleanups "incremental" and "scoped_full", which go by the source, do not
# find them. A document that has another text by then is in the store twice, with its old text for good.
# Seen, for both cleanups: [None, None] while a third document is embedded, and still so after that has failed; then doc-1 with
# a new text: 0 deleted, both texts in the store. Without that failure: 1 deleted, the new text alone.
# Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile uv==0.13.8 2>/dev/null
venv/bin/uv pip install --quiet --python venv/bin/python langchain-core==1.8.3 langchain-classic==1.0.8 sqlalchemy==2.1.9 greenlet==3.5.6
cat >seen.py <<'PY'
import sqlite3
from contextlib import closing

from langchain_classic.indexes import SQLRecordManager, index
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore


class Provider(Embeddings):
    """A model's provider, which is away at times; it notes the group_ids at the moment of each request."""

    def __init__(self, path):
        self.path, self.away, self.seen = path, False, []

    def embed_documents(self, texts):
        self.seen.append(group_ids(self.path))
        if self.away:
            raise ConnectionError("503")
        return [[0.0, 1.0] for _ in texts]

    def embed_query(self, text):
        return [0.0, 1.0]


def group_ids(path):
    with closing(sqlite3.connect(path)) as conn:
        return [each for (each,) in conn.execute("SELECT group_id FROM upsertion_record ORDER BY rowid")]


def run(cleanup, *, fails):
    """Two documents; a third beside them; then a new text of the first. What is stored in the end."""
    path = f"{cleanup}_{fails}.db"
    manager = SQLRecordManager("library", db_url=f"sqlite:///{path}")
    manager.create_schema()
    provider = Provider(path)
    store = InMemoryVectorStore(provider)

    def indexed(**texts):
        documents = [Document(text, metadata={"source": name.replace("_", "-")}) for name, text in texts.items()]
        return index(documents, manager, store, cleanup=cleanup, source_id_key="source", key_encoder="sha256")

    indexed(doc_1="old", doc_2="other")
    before = group_ids(path)
    provider.away = fails
    try:
        indexed(doc_1="old", doc_2="other", doc_3="third")
    except ConnectionError:
        assert fails
    else:
        assert not fails
    provider.away = False
    during, after = provider.seen[-1], group_ids(path)
    deleted = indexed(doc_1="new")["num_deleted"]
    texts = sorted(each["text"] for each in store.store.values() if each["metadata"]["source"] == "doc-1")
    said = "fails" if fails else "works"
    print(f"{cleanup}, embedding {said}: {before}, during {during}, after {after}; {deleted} deleted, doc-1 has {texts}")
    assert before == ["doc-1", "doc-2"] and during == [None, None], "changed: the unchanged documents keep their source"
    return after, deleted, texts


for cleanup in ("incremental", "scoped_full"):
    assert run(cleanup, fails=False) == (["doc-1", "doc-2", "doc-3"], 1, ["new"]), "changed: without a failure"
    assert run(cleanup, fails=True) == ([None, None], 0, ["new", "old"]), "changed: after a failure"
PY
venv/bin/python -W ignore seen.py
