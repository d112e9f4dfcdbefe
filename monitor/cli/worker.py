"""`worker`: executes queued runs until a signal."""

import signal
from typing import Annotated

import typer

from monitor.cli.options import ConfigPath, LogLevel
from monitor.cli.session import config_reader, load
from monitor.cli.signals import SignalHandler


def worker(
    config: ConfigPath = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=64, metavar="N", help="Jobs at a time in this process.")
    ] = 1,
    log_level: LogLevel = None,
) -> None:
    """Execute the runs that the daemon queues, until a signal.

    Any number of workers may run, on PostgreSQL with `[fleet] workers = true`. A signal gives running work back to the
    others; a second one ends the worker at once. SIGHUP reads the configuration again; a changed `[fleet]` or
    `database` needs a restart. Exit code: 143 after SIGTERM, 130 after SIGINT.

    Example: ingestion-monitor worker --concurrency 4
    """
    from monitor.cli import event_loop

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the worker handles it, it must not end the process
    first = load(config, log_level=log_level or "info")
    from monitor.app import validate_providers
    from monitor.daemon.worker import Worker

    validate_providers(first.targets)

    async def serve() -> int:
        signals = SignalHandler()
        worker = Worker(first, concurrency=concurrency, interrupt=signals.event, read_config=config_reader(config))
        signals.install()
        await worker.serve()
        return 128 + (signals.signal or signal.SIGTERM)

    raise typer.Exit(event_loop.run(serve()))
