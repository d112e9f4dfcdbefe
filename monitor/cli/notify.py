"""`notify`: delivers what is due, once."""

import asyncio
from pathlib import Path

from monitor.cli.session import load, opened, print_lines
from monitor.delivery import DeliveryReport

__all__ = ["UNREACHABLE", "delivery_line", "notify"]

UNREACHABLE = 4


def notify(path: Path | None, log_level: str | None) -> int:
    """Delivers what is due; exit code 4 when nothing could be delivered.

    Raises:
        StoreError: the database can't be used.
    """
    with opened(load(path, log_level=log_level)) as app:
        report = asyncio.run(app.sender().deliver())
    print_lines(delivery_line(report) or "Nothing is due.")
    return UNREACHABLE if report.unreachable else 0


def delivery_line(report: DeliveryReport) -> str:
    """`Messages: 2 sent, 1 put off`; empty when nothing was due and nothing waits behind a channel that fails."""
    waiting = 0 if report.put_off else report.kept_back
    counted = [
        (report.sent, "sent"),
        (report.put_off, "put off for a later attempt"),
        (report.dead, "given up"),
        (waiting, "kept back (`ingestion-monitor notifications list` says why)"),
    ]
    parts = [f"{count} {what}" for count, what in counted if count]
    return f"Messages: {', '.join(parts)}" if parts else ""
