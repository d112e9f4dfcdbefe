#!/usr/bin/env bash
# LightRAG 1.5.7, GET /documents/track_status/ID, "the processing status of documents by tracking ID": an id that never was is
# 200 with an empty list, not 404; the text of a document that is there already, sent under another name, is answered "success",
# and a moment later its record is "failed", although the text can be found: only metadata.is_duplicate tells it from a failure.
# Seen: 200 [], then success, then failed with is_duplicate true. Exits 0 while this is so, 1 when it has changed.
# Models are stood in for by a loopback server, and the tokenizer, whose tables are downloads, by one token per byte.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile uv==0.13.8 2>/dev/null
venv/bin/uv pip install --quiet --python venv/bin/python 'lightrag-hku[api]==1.5.7'
ports=$(venv/bin/python -c 'import socket as s; a, b = s.socket(), s.socket(); [x.bind(("127.0.0.1", 0)) for x in (a, b)]; print(a.getsockname()[1], b.getsockname()[1])')
read -r port models <<<"$ports"
cat >serve.py <<'PY'
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import tiktoken


class Models(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = json.dumps(asked)
        if "REFUSED" in text:
            return self.answer(400, {"error": {"message": "This text is refused.", "type": "invalid_request_error"}})
        if self.path.endswith("embeddings"):
            given = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
            vectors = [[byte / 255 for byte in hashlib.sha256(each.encode()).digest()] for each in map(str, given)]
            data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
            return self.answer(200, {"object": "list", "model": "small", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '{"entities": [], "relationships": []}'}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self.answer(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice], "usage": usage})

    def answer(self, status, body):
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


def bytes_as_tokens(*_):
    ranks = {bytes([n]): n for n in range(256)}
    return tiktoken.Encoding(name="bytes", pat_str=r"(?s:.)", mergeable_ranks=ranks, special_tokens={})


threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", int(sys.argv.pop(1))), Models).serve_forever, daemon=True).start()
tiktoken.get_encoding = tiktoken.encoding_for_model = bytes_as_tokens
from lightrag.api.lightrag_server import main

main()
PY
for kind in LLM EMBEDDING; do
  export "${kind}_BINDING=openai" "${kind}_BINDING_HOST=http://127.0.0.1:$models/v1" "${kind}_BINDING_API_KEY=none" "${kind}_MODEL=small"
done
HOME=$folder HOST=127.0.0.1 PORT=$port EMBEDDING_DIM=32 PATH=$folder/venv/bin:$PATH venv/bin/python serve.py "$models" >server.log 2>&1 &
server=$!
cat >look.py <<'PY'
import sys
import time

import httpx

url = f"http://127.0.0.1:{sys.argv[1]}"
for _ in range(90):
    try:
        httpx.get(f"{url}/health", timeout=20)
        break
    except httpx.TransportError:
        time.sleep(1)


def documents(track_id):
    answer = httpx.get(f"{url}/documents/track_status/{track_id}", timeout=30)
    assert answer.status_code == 200, "changed: no longer 200"
    return answer.json()["documents"]


def upload(name, text):
    sent = httpx.post(f"{url}/documents/text", json={"text": text, "file_source": name}, timeout=30).json()
    for _ in range(60):
        found = documents(sent["track_id"])
        if found and found[0]["status"] in {"processed", "failed"}:
            return sent["status"], found[0]
        time.sleep(1)
    raise SystemExit("the text was not processed")


print("never was:", documents("insert_20260101_000000_00000000"))
assert documents("insert_20260101_000000_00000000") == [], "changed: it says more of an unknown id"
for name in ("first.txt", "second.txt"):
    said, record = upload(name, "Water boils at 100 degrees.")
    print(f"{name}: {said}, then {record['status']}, is_duplicate {record['metadata'].get('is_duplicate')}")
assert (said, record["status"], record["metadata"]["is_duplicate"]) == ("success", "failed", True), "changed"
PY
venv/bin/python look.py "$port"
