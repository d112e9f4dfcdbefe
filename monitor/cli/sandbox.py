"""`sandbox`: serves the simulated data engine until a signal."""

import signal
from types import FrameType

from monitor.cli.session import configure_logging, print_lines
from monitor.sandbox import SandboxSettings, serve

__all__ = ["sandbox"]


def sandbox(*, host: str, port: int, item_seconds: float, token_seconds: float) -> None:
    """Serves on host and port; prints what a client needs first.

    Raises:
        MonitorError: the port is taken.
    """
    configure_logging(None)
    settings = SandboxSettings(host=host, port=port, item_seconds=item_seconds, token_seconds=token_seconds)

    def end(sign: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + sign)

    def ready(url: str) -> None:
        print_lines(
            f"The sandbox serves Gloo's API at {url} until Ctrl-C.\n"
            f"  client id      {settings.client_id}\n"
            f"  client secret  {settings.client_secret}\n"
            f"  API key        {settings.api_key}\n"
            f"  publisher id   {settings.publisher_id}\n"
            f"  faults         POST {url}/_sandbox/faults (docs/sandbox.md)"
        )

    # the server ends cleanly on SIGTERM and then raises it again
    signal.signal(signal.SIGTERM, end)
    serve(settings, on_ready=ready)
