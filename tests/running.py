"""A daemon in a process of its own, as tests run it."""

import signal
import threading
import time

from cli.observed import events, until


class Running:
    """A daemon whose log is read as it comes."""

    def __init__(self, world):
        self.process = world.start("daemon")
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def logged(self, name):
        return events("".join(list(self.lines)), name)

    def await_events(self, name, count=1):
        until(lambda: len(self.logged(name)) >= count, f"{count} × {name} in {self.lines}")

    def end(self, sign=signal.SIGTERM):
        """Signals it; the exit code, and how long that took in seconds."""
        started_s = time.monotonic()
        self.process.send_signal(sign)
        code = self.process.wait(timeout=20)
        return code, time.monotonic() - started_s

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=20)
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
