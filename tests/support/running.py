"""A daemon in its own process, for tests."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from support.observed import events, until
from support.world import environment

from monitor import logs as log
from monitor.config import load_config
from monitor.daemon import Daemon


class Running:
    """A daemon, or another command that serves, whose log is read while it runs."""

    def __init__(self, world, *command, lease_s=None):
        self.process = world.start(*(command or ["daemon"])) if lease_s is None else _with_lease(world, lease_s)
        self.lines = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def logged(self, name):
        return events("".join(list(self.lines)), name)

    def await_events(self, name, count=1):
        until(lambda: len(self.logged(name)) >= count, f"{count} × {name} in {self.lines}", timeout_s=60)

    def end(self, sign=signal.SIGTERM):
        """Sends a signal; returns the exit code and the seconds until the exit."""
        started_s = time.monotonic()
        self.process.send_signal(sign)
        code = self.process.wait(timeout=120)
        return code, time.monotonic() - started_s

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=120)
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()


def _with_lease(world, lease_s):
    """A daemon with short leases, so that a test need not wait for half a minute."""
    return subprocess.Popen(
        [sys.executable, __file__, str(world.config_path), str(lease_s)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=world.folder,
        env={**environment(), "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip


def main(path, lease_s):
    log.configure(level="info")
    config = load_config(Path(path), environ={})

    async def serve():
        return await Daemon(config, on_stop=lambda _: None, lease=timedelta(seconds=float(lease_s))).serve()

    return asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
