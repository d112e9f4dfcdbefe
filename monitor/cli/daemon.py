"""`daemon`: serves until a signal."""

import signal
from datetime import UTC, datetime

import typer

from monitor.cli.options import ConfigPath, LogLevel
from monitor.cli.session import config_reader, load
from monitor.cli.signals import force_exit_after
from monitor.cli.streams import log_loss


def daemon(config: ConfigPath = None, log_level: LogLevel = None) -> None:
    """Run every target on its schedule, until a signal.

    It also delivers messages and serves the health endpoints. Exit code: 143 after SIGTERM, 130 after SIGINT.

    Example: ingestion-monitor daemon --config /etc/monitor.toml
    """
    from monitor.cli import event_loop

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon handles it, it must not end the process
    first = load(config, log_level=log_level or "info")
    from monitor.app import validate_providers
    from monitor.daemon import Daemon
    from monitor.web.readiness import LogLoss

    validate_providers(first.targets)

    def read_log_loss() -> LogLoss | None:
        loss = log_loss()
        if loss is None:
            return None
        return LogLoss(lines=loss.lines, reason=loss.reason, last_at=datetime.fromtimestamp(loss.last_at_s, UTC))

    async def serve() -> int:
        daemon = Daemon(first, on_stop=force_exit_after, read_config=config_reader(config), read_log_loss=read_log_loss)
        return await daemon.serve()

    raise typer.Exit(event_loop.run(serve()))
