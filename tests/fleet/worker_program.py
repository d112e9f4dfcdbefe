"""A worker with the handlers of a test, as a process: `python worker_program.py monitor.toml`.

A plan ends at once. A share waits for the interrupt, and is given back; it ends when another worker has begun it. A
close hangs, whatever happens.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

import structlog
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from monitor import logs
from monitor.cli.signals import SignalHandler
from monitor.config import load_config
from monitor.daemon.worker import Worker
from monitor.fleet.handlers import JobEnd


class Handlers:
    """They log what they do."""

    def __init__(self, app, queue, interrupt):
        self._engine, self._queue, self._interrupt = app.engine, queue, interrupt
        self._environment, self._log = app.config.environment, structlog.get_logger()

    async def plan(self, target, run_key):
        self._log.info("planned", integration=target, run_key=run_key, environment=self._environment)
        return JobEnd.DONE

    async def share(self, run_id, number, worker):
        attempt = await asyncio.to_thread(self._begin)
        self._log.info("share_began", number=number, worker=worker)
        while not self._interrupt.is_set():
            with contextlib.suppress(OperationalError):
                if await asyncio.to_thread(self._attempts) != attempt:
                    return JobEnd.LOST
            await asyncio.sleep(0.2)
        await self._queue.defer_share(run_id, number)
        return JobEnd.GIVEN_BACK

    def _begin(self):
        with self._engine.begin() as conn:
            return conn.execute(text("UPDATE attempts SET made = made + 1 RETURNING made")).scalar_one()

    def _attempts(self):
        with self._engine.begin() as conn:
            return conn.execute(text("SELECT made FROM attempts")).scalar_one()

    async def close(self, run_id):
        self._log.info("close_began", run_id=run_id)
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                self._log.info("close_cancelled")


async def serve(path):
    signals = SignalHandler()

    def read_config():
        return load_config(Path(path), environ={})

    worker = Worker(
        read_config(), concurrency=2, interrupt=signals.event, build_handlers=Handlers, read_config=read_config
    )
    signals.install()
    await worker.serve()
    return 128 + signals.signal


if __name__ == "__main__":
    logs.configure(level="info")
    sys.exit(asyncio.run(serve(sys.argv[1])))
