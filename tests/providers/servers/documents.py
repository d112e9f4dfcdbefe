"""A small API for documents on loopback: real HTTP in its own threads, one key, one status per document."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit


class DocumentServer:
    """Answers 401 without its key, `routes` for known paths, 404 otherwise; keeps the requested paths.

    The header `key_header` must contain `key`; a test changes it to revoke the client's key.
    """

    key_header = "authorization"

    def __init__(self, *, key):
        self.key, self.routes, self.paths = key, {}, []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two packets: the second would wait for an ACK

            def do_GET(self):
                headers = {name.lower(): value for name, value in self.headers.items()}
                url = urlsplit(self.path)
                server.paths.append(url.path)
                self.reply(*server.respond(unquote(url.path), dict(parse_qsl(url.query)), headers))

            def do_POST(self):
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                if self.headers["content-type"] == "application/json":
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    server.paths.append(self.path)
                    self.reply(*server.questioned(self.path, json.loads(form), headers))
                    return
                self.reply(*server.posted(self.path, dict(parse_qsl(form))))

            def reply(self, status, more, body):
                raw = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **more}.items():
                    self.send_header(name, value)
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

    def answer(self, path, body):
        """Lets a path answer 200 with a body."""
        self.routes[path] = body

    def respond(self, path, query, headers):
        """Status, headers and body of the answer to one request."""
        if headers.get(self.key_header) != self.key:
            return 401, {}, self.refusal()
        return self.documents(path, query, headers)

    def posted(self, path, form):
        """Status, headers and body of the answer to a form."""
        return 405, {}, {"error": "method not allowed"}

    def questioned(self, path, body, headers):
        """Status, headers and body of the answer to a question that is a JSON body."""
        if headers.get(self.key_header) != self.key:
            return 401, {}, self.refusal()
        return self.documents(path, body, headers)

    def documents(self, path, query, headers):
        """The same, after the key was accepted."""
        if path in self.routes:
            return 200, {}, self.routes[path]
        return 404, {}, self.absence(path)

    def refusal(self):
        """The body of a 401."""
        return {"error": "unauthorized"}

    def absence(self, path):
        """The body of a 404."""
        return {"error": "not found"}

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
