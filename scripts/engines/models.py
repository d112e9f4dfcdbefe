"""Stands in for OpenAI, on loopback and without a model: embeddings, chat completions, and files of vector stores.

A text that contains `REFUSED` is answered 400, as a provider answers to a text that its policy or its limits refuse.
"""

import base64
import contextlib
import hashlib
import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIMENSIONS = 32
REFUSED = "REFUSED"
ENTITY = '{"entities": [], "relationships": []}'


FILES = {"file-done": "completed", "file-busy": "in_progress", "file-bad": "failed"}
"""The files of every vector store, for what passes such questions on."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing: engines ask often."""

    def do_GET(self):
        _, _, file_id = self.path.partition("?")[0].partition("/files")
        if "/vector_stores/" not in self.path:
            model = {"id": "stand-in", "object": "model", "owned_by": "engines"}
            self._answer(200, {"object": "list", "data": [model]})
        elif not file_id:
            data = [_file(each) for each in FILES]
            self._answer(200, {"object": "list", "data": data, "last_id": data[-1]["id"], "has_more": False})
        elif file_id[1:] in FILES:
            self._answer(200, _file(file_id[1:]))
        else:
            message = f"No file found with id '{file_id[1:]}' in vector store."
            self._answer(
                404, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
            )

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if REFUSED in json.dumps(asked):
            error = {"message": "This text is refused.", "type": "invalid_request_error", "param": None, "code": None}
            self._answer(400, {"error": error})
        elif self.path.endswith("/embeddings"):
            self._answer(200, _embeddings(asked))
        elif asked.get("stream"):
            self._stream(_completion(asked))
        else:
            self._answer(200, _completion(asked))

    def _answer(self, status, body):
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, completion):
        choice = {"index": 0, "delta": completion["choices"][0]["message"], "finish_reason": "stop"}
        chunk = {**completion, "object": "chat.completion.chunk", "choices": [choice]}
        raw = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _file(file_id):
    failed = FILES[file_id] == "failed"
    error = {"code": "unsupported_file", "message": "The file type is not supported."}
    return {
        "id": file_id,
        "object": "vector_store.file",
        "created_at": 1700000000,
        "status": FILES[file_id],
        "last_error": error if failed else None,
        "vector_store_id": "vs_1",
    }


def _embeddings(asked):
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    if texts and isinstance(texts[0], int):  # one text, as tokens
        texts = [texts]
    vectors = [_vector(json.dumps(text)) for text in texts]
    if asked.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode() for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return {"object": "list", "model": asked.get("model", ""), "data": data, "usage": usage}


def _vector(text):
    """The same for the same text, another for another one, but all near: a search finds the few that there are."""
    return [1.0, *((byte - 127.5) / 2550 for byte in hashlib.sha256(text.encode()).digest()[: DIMENSIONS - 1])]


def _completion(asked):
    message = {"role": "assistant", "content": ENTITY}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": asked.get("model", ""),
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


@contextlib.contextmanager
def model_server():
    """The base URL of a model server that runs until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
