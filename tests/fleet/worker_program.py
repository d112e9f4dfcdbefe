"""A worker with the handlers of a test, as a process: `python worker_program.py monitor.toml`.

A plan ends at once. A share waits for the interrupt, and is given back. A close hangs, whatever happens.
"""

import asyncio
import sys
from pathlib import Path

import structlog

from monitor import logs
from monitor.cli.signals import SignalHandler
from monitor.config import load_config
from monitor.daemon.worker import Worker


class Handlers:
    """They log what they do."""

    def __init__(self, app, queue, interrupt):
        self._queue, self._interrupt = queue, interrupt
        self._log = structlog.get_logger()

    async def plan(self, target, run_key):
        self._log.info("planned", integration=target, run_key=run_key)

    async def share(self, run_id, number, worker):
        self._log.info("share_began", number=number, worker=worker)
        await self._interrupt.wait()
        await self._queue.defer_share(run_id, number)

    async def close(self, run_id):
        self._log.info("close_began", run_id=run_id)
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                self._log.info("close_cancelled")


async def serve(path):
    signals = SignalHandler()
    worker = Worker(
        load_config(Path(path), environ={}), concurrency=2, interrupt=signals.event, build_handlers=Handlers
    )
    signals.install()
    await worker.serve()
    return 128 + signals.signal


if __name__ == "__main__":
    logs.configure(level="info")
    sys.exit(asyncio.run(serve(sys.argv[1])))
