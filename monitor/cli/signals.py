"""Signals: graceful stop first, hard exit on the second signal or a timeout. Delivery that a signal can stop."""

import os
import signal
import threading
from typing import TYPE_CHECKING

from monitor.cli import early_signals

if TYPE_CHECKING:
    import asyncio

    from monitor.notifications.delivery import DeliveryReport, Sender

FORCED_EXIT_S = 9.5
"""Seconds from a signal to the end of the process, even if a database or a receiver blocks it."""
SEND_GRACE_S = 3.0
"""Seconds that messages being sent may take after a signal."""


def force_exit_after(signum: signal.Signals, *, after_s: float = FORCED_EXIT_S) -> None:
    """Ends the process after some seconds (> 0) with 128 plus the signal's number. What is left is what a kill leaves.

    Threads that wait for a locked or silent database can't be cancelled, and Python waits for them at its exit.
    """
    timer = threading.Timer(after_s, os._exit, (128 + signum,))
    timer.daemon = True
    timer.start()


class SignalHandler:
    """SIGINT and SIGTERM while a command works: the first stops it gracefully, the second ends the process."""

    def __init__(self) -> None:
        import asyncio

        self.event = asyncio.Event()
        """Set by the first signal."""
        self.signal: signal.Signals | None = None

    def install(self) -> None:
        """Handles signals from now on; call it in the loop that does the work."""
        import asyncio

        loop = asyncio.get_running_loop()

        def stop(signum: signal.Signals) -> None:
            self.signal = signum
            self.event.set()
            force_exit_after(signum)
            loop.remove_signal_handler(signum)
            signal.signal(signum, early_signals.end)  # not the default: process 1 would not get it

        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop, signum)


async def deliver(sender: "Sender", interrupt: "asyncio.Event") -> "DeliveryReport":
    """Delivers what is due. Once `interrupt` is set, messages being sent may finish; the others are released.

    Raises StoreError if the database can't be used.
    """
    import asyncio

    from monitor.notifications.delivery import DeliveryReport

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


def delivery_line(report: "DeliveryReport") -> str:
    """`Messages: 2 sent, 1 deferred`; empty if nothing was due and nothing waits for a failing channel.

    What only the log got is not called sent: nobody was notified.
    """
    waiting = 0 if report.deferred else report.blocked
    refused = f", {report.partly} of them not to all recipients (`ingestion-monitor notifications list --all` says why)"
    counted = [
        (report.sent - report.log_only, "sent" + (refused if report.partly else "")),
        (report.log_only, "written to the log only"),
        (report.deferred, "deferred"),
        (report.dead, "given up"),
        (waiting, "not sent yet (`ingestion-monitor notifications list` says why)"),
    ]
    parts = [f"{count} {what}" for count, what in counted if count]
    return f"Messages: {', '.join(parts)}" if parts else ""


def delivery_json(report: "DeliveryReport") -> dict[str, int]:
    """The same as JSON values."""
    return {"sent": report.sent, "deferred": report.deferred, "dead": report.dead, "log_only": report.log_only}
