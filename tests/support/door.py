"""A port that refuses connections at first, like a server that starts late."""

import contextlib
import socket
import threading


class Door:
    """Refuses connections until it is opened, and then forwards them."""

    def __init__(self, host, port):
        self._server = (host, port)
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = []

    def open(self):
        self._listener.listen()
        self._threads.append(threading.Thread(target=self._serve))
        self._threads[0].start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                inside = self._listener.accept()[0]
                outside = socket.create_connection(self._server)
                for pair in ((inside, outside), (outside, inside)):
                    self._threads.append(threading.Thread(target=_pump, args=pair))
                    self._threads[-1].start()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def _pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
