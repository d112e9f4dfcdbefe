#!/usr/bin/env bash
# LightRAG 1.5.7: one text whose embedding the model's provider refuses (HTTP 400) makes ordinary texts beside it fail, too: of
# three texts sent together all three end as "failed", the good ones with the error of the bad one. What failed so can't be sent
# again: the same name is answered 409, although nothing of it can be found. Good texts without the bad one are processed.
# Seen: processed, processed; then failed, failed, failed; then 409. Exits 0 while this is so, 1 when it has changed.
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
    return httpx.get(f"{url}/documents/track_status/{track_id}", timeout=30).json()["documents"]


def states(texts):
    names = [f"{text.split()[0]}.txt" for text in texts]
    sent = httpx.post(f"{url}/documents/texts", json={"texts": texts, "file_sources": names}, timeout=30).json()
    for _ in range(60):
        found = documents(sent["track_id"])
        if len(found) == len(texts) and {each["status"] for each in found} <= {"processed", "failed"}:
            by_name = {each["file_path"]: each for each in found}
            for name in names:
                print(f"  {name}: {by_name[name]['status']}  {by_name[name]['error_msg'] or ''}")
            return [by_name[name]["status"] for name in names]
        time.sleep(1)
    raise SystemExit("the texts were not processed")


print("two good texts:")
good = states(["Ice melts.", "Steam is hot."])
print("two good texts and a bad one:")
together = states(["Rain falls.", "That is REFUSED.", "Snow is cold."])
again = httpx.post(f"{url}/documents/text", json={"text": "Rain falls.", "file_source": "Rain.txt"}, timeout=30)
print("a good one again:", again.status_code, again.text[:120])
assert good == ["processed", "processed"], "changed: good texts"
assert together == ["failed", "failed", "failed"], "changed: together"
assert again.status_code == 409, "changed: it can be sent again"
PY
venv/bin/python look.py "$port"
