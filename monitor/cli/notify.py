"""`notify`: delivers what is due, once. After a signal it releases the messages that it has claimed and not sent."""

from typing import TYPE_CHECKING

import typer

from monitor.cli.exit_codes import UNREACHABLE
from monitor.cli.options import AsJson, ConfigPath, LogLevel
from monitor.cli.session import load, open_app, print_json, print_lines
from monitor.cli.signals import SignalHandler, deliver, delivery_json, delivery_line

if TYPE_CHECKING:
    from monitor.notifications.delivery import DeliveryReport


def notify(config: ConfigPath = None, as_json: AsJson = False, log_level: LogLevel = None) -> None:
    """Deliver the messages that are due, once.

    `check` does so after its last target. Exit code: 0, or 4 if no channel could be reached.

    Example: ingestion-monitor notify
    """
    from monitor.cli import event_loop

    loaded = load(config, log_level=log_level)
    signals = SignalHandler()
    with open_app(loaded) as app:

        async def send() -> "DeliveryReport":
            signals.install()
            return await deliver(app.sender(), signals.event)

        report = event_loop.run(send())
    if as_json:
        print_json(delivery_json(report))
    elif line := delivery_line(report) or ("" if signals.signal else "Nothing is due."):
        print_lines(line)
    if signals.signal is not None:
        raise typer.Exit(128 + signals.signal)
    raise typer.Exit(UNREACHABLE if report.unreachable else 0)
