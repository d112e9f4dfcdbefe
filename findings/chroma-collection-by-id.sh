#!/usr/bin/env bash
# Chroma 1.5.9, its own server and client: the same place in the path takes the name of a collection or its id, by turns.
# GET …/collections/X takes the name only: by the id that creation answered it is 404 "does not exist".
# GET …/collections/X/count takes the id only: by the name it is 400 "not a valid UUIDv4".
# Seen: by id 404 and 200, by name 200 and 400. Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile uv==0.13.8 2>/dev/null
venv/bin/uv pip install --quiet --python venv/bin/python chromadb==1.5.9
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
HOME=$folder venv/bin/chroma run --path data --host 127.0.0.1 --port "$port" >server.log 2>&1 &
server=$!
cat >look.py <<'PY'
import sys
import time

import chromadb
import httpx

port = int(sys.argv[1])
url = f"http://127.0.0.1:{port}/api/v2"
for _ in range(60):
    try:
        httpx.get(f"{url}/heartbeat")
        break
    except httpx.ConnectError:
        time.sleep(1)
client = chromadb.HttpClient(host="127.0.0.1", port=port)
collection = client.create_collection("letters", embedding_function=None)
collection.add(ids=["1"], embeddings=[[1.0, 2.0]])
collections = f"{url}/tenants/default_tenant/databases/default_database/collections"
for name, expected in ((str(collection.id), (404, 200)), ("letters", (200, 400))):
    answers = httpx.get(f"{collections}/{name}"), httpx.get(f"{collections}/{name}/count")
    print("by id:  " if name != "letters" else "by name:", *(f"{each.status_code} {each.text[:90]}" for each in answers), sep="  ")
    assert tuple(each.status_code for each in answers) == expected, "changed"
PY
venv/bin/python look.py "$port"
