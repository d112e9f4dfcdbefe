"""Stands between the product and an engine, passes everything on, and keeps what was asked and answered."""

import contextlib
import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSED_ON = ("authorization", "x-api-key", "content-type", "accept")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that gave up is no news."""


class Recorder:
    """The exchanges in the order of their first request, each once."""

    def __init__(self, origin):
        self.origin, self.exchanges = origin, {}
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                """Nothing."""

            def do_GET(self):
                self._pass_on(None)

            def do_POST(self):
                self._pass_on(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def _pass_on(self, body):
                headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
                status, kind, raw = recorder.pass_on(self.command, self.path, body, headers)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        self._server = _Server(("127.0.0.1", 0), Handler)

    def pass_on(self, method, path, body, headers):
        """The engine's answer: status, content type, bytes."""
        request = urllib.request.Request(self.origin + path, data=body, headers=headers, method=method)  # noqa: S310  # loopback
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310  # loopback
                answer = reply.status, reply.headers.get("Content-Type", ""), reply.read()
        except urllib.error.HTTPError as error:
            answer = error.code, error.headers.get("Content-Type", ""), error.read()
        asked = {"ask": f"{method} {path}", **({} if body is None else {"with": json.loads(body)})}
        self.exchanges.setdefault(json.dumps(asked), {**asked, **_answered(*answer)})
        return answer

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"


@contextlib.contextmanager
def recording(origin):
    """A recorder before an origin such as `http://127.0.0.1:9621`, until the end of the block."""
    recorder = Recorder(origin)
    threading.Thread(target=recorder._server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield recorder
    finally:
        recorder._server.shutdown()
        recorder._server.server_close()


def _answered(status, kind, raw):
    try:
        return {"status": status, "body": json.loads(raw)}
    except ValueError:
        return {"status": status, "type": kind, "text": raw.decode("utf-8", "replace")}
