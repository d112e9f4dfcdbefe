"""Real engines as they answered once: every exchange of a session, by method, path, query and body.

`make engines` keeps the sessions in tests/providers/recorded.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RecordedServer:
    """Answers as recorded; to what was never asked with `otherwise`, else 599 and the question itself."""

    def __init__(self, exchanges, *, otherwise=None):
        self.answers = {_key(each["ask"], each.get("with")): each for each in exchanges}
        self.asked, self.otherwise = [], otherwise
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two packets: the second would wait for an ACK

            def do_GET(self):
                self._reply(None)

            def do_POST(self):
                self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _reply(self, body):
                ask = f"{self.command} {self.path}"
                server.asked.append(ask)
                never = server.otherwise or {"status": 599, "body": {"never": ask, "with": body}}
                found = server.answers.get(_key(ask, body), never)
                raw = found["text"].encode() if "text" in found else json.dumps(found["body"]).encode()
                self.send_response(found["status"])
                self.send_header("content-type", found.get("type", "application/json"))
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                """Keeps stderr quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _key(ask, body):
    return ask, json.dumps(body, sort_keys=True)
