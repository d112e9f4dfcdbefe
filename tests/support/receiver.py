"""A receiver of webhooks on loopback, in its own thread, with configurable responses; it keeps its requests."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Returns the given `(status, headers, body)` in turn, the last one repeatedly; with `hang` it waits for release.

    `stop` closes the port, `start` opens the same one again.
    """

    def __init__(self, *answers):
        self.answers = list(answers) or [(200, {}, b"")]
        self.got = []
        self.raw = []
        self.hang = False
        self._let_go = threading.Event()
        self._port = 0
        self._server = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}/hook"

    def start(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                is_json = headers.get("content-type", "").startswith("application/json")
                receiver.raw.append(body)
                receiver.got.append((self.path, headers, json.loads(body) if is_json else body.decode()))
                if receiver.hang:
                    receiver._let_go.wait()
                    self.close_connection = True
                    return
                status, headers, body = receiver.next_answer()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Keeps stderr quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self):
        if self._server is not None:
            self._let_go.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def next_answer(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
