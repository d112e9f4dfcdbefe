"""`daemon`: serves until a signal."""

import asyncio
import signal
from pathlib import Path

from monitor.cli.session import load, register_secrets
from monitor.cli.signals import force_exit_after
from monitor.config import Config


def daemon(path: Path | None, log_level: str | None) -> int:
    """Runs the daemon; exit code 143 after SIGTERM, 130 after SIGINT.

    Raises:
        ConfigError: with every problem found.
        SchemaError: the database's schema is not this program's.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is heeded it must not end the process
    config = load(path, log_level=log_level or "info")
    from monitor.app import validate_providers
    from monitor.daemon import Daemon

    validate_providers(config.targets)

    def read_config() -> Config:
        config = Config.load(path)
        register_secrets(config)
        validate_providers(config.targets)
        return config

    async def serve() -> int:
        return await Daemon(config, on_stop=force_exit_after, read_config=read_config).serve()

    return asyncio.run(serve())
