#!/usr/bin/env bash
# The LiteLLM proxy 1.108.7 with a master key and no database, a documented setup, never answers 401: a wrong key is 400
# "No connected db." with the type no_db_connection, as if the request were malformed, and a request without any key is 500
# with the plain text "Internal Server Error". Clients retry the second, and take the first for a fault of their own.
# Seen: right key 200; wrong key 400; no key 500, text/plain. Exits 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --no-compile uv==0.13.8 2>/dev/null
venv/bin/uv pip install --quiet --python venv/bin/python 'litellm[proxy]==1.108.7'
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >config.yaml <<'YAML'
model_list:
  - {model_name: small, litellm_params: {model: openai/small, api_key: none}}
general_settings: {master_key: sk-right}
YAML
LITELLM_LOCAL_MODEL_COST_MAP=True HOME=$folder PATH=$folder/venv/bin:$PATH \
  venv/bin/litellm --config config.yaml --host 127.0.0.1 --port "$port" >server.log 2>&1 &
server=$!
cat >look.py <<'PY'
import sys
import time

import httpx

url = f"http://127.0.0.1:{sys.argv[1]}"
for _ in range(100):
    try:
        httpx.get(f"{url}/health/liveliness", timeout=20)
        break
    except httpx.TransportError:
        time.sleep(1)
for key, status, words in (("sk-right", 200, "small"), ("sk-wrong", 400, "no_db_connection"), (None, 500, "Internal Server Error")):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = httpx.get(f"{url}/v1/models", headers=headers, timeout=30)
    print(key or "no key", answer.status_code, answer.headers["content-type"], answer.text[:120])
    assert (answer.status_code, words in answer.text) == (status, True), "changed"
PY
venv/bin/python look.py "$port"
