"""A simulated data engine and a receiver of webhooks in their own process, for a long-running monitor.

Their memory is not part of the measured process.
"""

import contextlib
import multiprocessing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Peers:
    """`call("create_items", 3)` calls that method of the sandbox; has `settings`, `sandbox_url` and `hook_url`."""

    def __init__(self, pipe):
        self._pipe = pipe
        self.sandbox_url, self.hook_url, self.settings = pipe.recv()

    def call(self, method, *arguments, **options):
        self._pipe.send((method, arguments, options))
        return self._pipe.recv()


@contextlib.contextmanager
def peers():
    """Starts both; they end with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield Peers(ours)
    finally:
        ours.close()
        process.join(timeout=20)
        process.close()


def _serve(pipe):
    from monitor.sandbox import Sandbox

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), _Hook)
    Thread(target=receiver.serve_forever, daemon=True).start()
    with Sandbox() as sandbox, contextlib.suppress(EOFError):
        pipe.send((sandbox.url, f"http://127.0.0.1:{receiver.server_address[1]}/hook", sandbox.settings))
        while True:
            method, arguments, options = pipe.recv()
            pipe.send(getattr(sandbox, method)(*arguments, **options))
    receiver.shutdown()
    receiver.server_close()


class _Hook(BaseHTTPRequestHandler):
    """Accepts every message and keeps none."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Keeps stderr quiet."""
