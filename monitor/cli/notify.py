"""`notify`: delivers what is due, once. Told to end, it gives back what it claimed and did not send."""

import asyncio
from pathlib import Path

from monitor.cli.session import load, open_app, print_lines
from monitor.cli.signals import SignalHandler
from monitor.notifications.delivery import DeliveryReport, Sender

UNREACHABLE = 4
SEND_GRACE_S = 3.0
"""After a signal, messages being sent may finish for so long, in seconds."""


def notify(path: Path | None, log_level: str | None) -> int:
    """Delivers what is due; exit code 4 when nothing could be delivered, 128 plus its number after a signal.

    Raises:
        StoreError: the database can't be used.
    """
    with open_app(load(path, log_level=log_level)) as app:
        signal_handler = SignalHandler()

        async def send() -> DeliveryReport:
            signal_handler.install()
            return await deliver(app.sender(), signal_handler.event)

        report = asyncio.run(send())
    line = delivery_line(report) or ("" if signal_handler.signal else "Nothing is due.")
    if line:
        print_lines(line)
    if signal_handler.signal is not None:
        return 128 + signal_handler.signal
    return UNREACHABLE if report.unreachable else 0


async def deliver(sender: Sender, interrupt: asyncio.Event) -> DeliveryReport:
    """Delivers what is due; once `interrupt` is set, what is being sent may finish for a while, the rest is given back.

    Raises:
        StoreError: the database can't be used.
    """
    sending = asyncio.create_task(sender.deliver())
    stopping = asyncio.create_task(interrupt.wait())
    try:
        await asyncio.wait((sending, stopping), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((sending,), timeout=SEND_GRACE_S)
    finally:
        for task in (sending, stopping):
            task.cancel()
        await asyncio.gather(sending, stopping, return_exceptions=True)
    return DeliveryReport() if sending.cancelled() else sending.result()


def delivery_line(report: DeliveryReport) -> str:
    """`Messages: 2 sent, 1 put off`; empty when nothing was due and nothing waits behind a channel that fails."""
    waiting = 0 if report.deferred else report.blocked
    counted = [
        (report.sent, "sent"),
        (report.deferred, "put off for a later attempt"),
        (report.dead, "given up"),
        (waiting, "kept back (`ingestion-monitor notifications list` says why)"),
    ]
    parts = [f"{count} {what}" for count, what in counted if count]
    return f"Messages: {', '.join(parts)}" if parts else ""
