"""A TCP proxy in front of a server that simulates network faults: it goes silent, or loses an answer."""

import contextlib
import socket
import threading
from functools import partial


class Proxy:
    """Forwards bytes on loopback, in its own threads; a context manager.

    Args:
        port: of the server on 127.0.0.1.
    """

    def __init__(self, port):
        self.upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._sockets, self._threads = [], []
        self._marks, self._then, self.lost = (), lambda: None, 0
        """How often an answer was lost."""

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self._open.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._sockets):
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def stop_forwarding(self):
        """Stops forwarding in both directions without closing connections."""
        self._open.clear()

    def resume_forwarding(self):
        """Forwards what was kept back, and everything after it."""
        self._open.set()

    def lose_the_answer(self, *, after, to=b"COMMIT", then=lambda: None):
        """Once, on a connection that sent `after`: forwards the next data that contains `to`, but not its answer.

        Then calls `then` and closes the connection.
        """
        self._marks, self._then = (after, to), then

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.upstream))
                self._sockets += [client, server]
                losing = threading.Event()
                self._start(self._forward, client, server, self._watch(losing))
                self._start(self._forward, server, client, partial(_watching, losing))

    def _watch(self, losing):
        """Inspects what a client sends; sets `losing` if the answer to it must be lost."""
        seen = []

        def watch(sent):
            if self._marks and self._marks[0] in sent:
                seen.append(True)
            if seen and self._marks and self._marks[1] in sent:
                self._marks, self.lost = (), self.lost + 1
                losing.set()
            return False

        return watch

    def _forward(self, source, target, is_lost):
        with contextlib.suppress(OSError):
            while sent := source.recv(1 << 16):
                self._open.wait()
                if is_lost(sent):
                    self._then()
                    break
                target.sendall(sent)
        _end(source)
        _end(target)


def _watching(losing, _received):
    return losing.is_set()


def _end(sock):
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
