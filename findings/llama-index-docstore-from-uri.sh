#!/usr/bin/env bash
# llama-index-storage-docstore-postgres 0.6.0 with llama-index-storage-kvstore-postgres 0.4.3, the newest version that its own
# requirement allows and pip picks: PostgresDocumentStore.from_uri and from_params, the documented ways to make one, fail for
# every argument before anything is contacted: they pass create_engine_kwargs on to a store that does not know it.
# Seen: TypeError: PostgresKVStore.from_uri() got an unexpected keyword argument 'create_engine_kwargs'.
# Only PostgresDocumentStore(PostgresKVStore(…)) works. Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile uv==0.13.8 2>/dev/null
venv/bin/uv pip install --quiet --python venv/bin/python llama-index-storage-docstore-postgres==0.6.0
cat >make.py <<'PY'
from importlib.metadata import version

from llama_index.storage.docstore.postgres import PostgresDocumentStore

print("kvstore", version("llama-index-storage-kvstore-postgres"))
for make in (
    lambda: PostgresDocumentStore.from_uri("postgresql://app:secret@localhost:5432/library"),
    lambda: PostgresDocumentStore.from_params("localhost", "5432", "library", "app", "secret"),
):
    try:
        make()
    except TypeError as error:
        assert "create_engine_kwargs" in str(error), f"changed: {error}"
        print(error)
    else:
        raise SystemExit("changed: a store was made")
PY
venv/bin/python make.py
