"""What the engines on loopback share: a server in a thread, and answers with a length."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class AnsweringHandler(BaseHTTPRequestHandler):
    """Answers in JSON over one connection, and keeps stderr quiet."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets: the second would wait for an ACK

    def do_GET(self):
        self.get()

    def do_POST(self):
        self.post()

    def get(self):
        """Answers a GET."""
        self.send_error(501)

    def post(self):
        """Answers a POST."""
        self.send_error(501)

    def read_body(self):
        """The body of the request, of the length that it says; empty without one."""
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def lower_headers(self):
        """The headers of the request, names in lower case."""
        return {name.lower(): value for name, value in self.headers.items()}

    def reply(self, status, more, body):
        """Sends a status, further headers, and a body: bytes as they are, else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **more}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        """Keeps stderr quiet."""


class LoopbackServer:
    """A server of these handlers on a free port of 127.0.0.1, while the context lasts."""

    def __init__(self, handler):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
