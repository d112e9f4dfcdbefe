"""What became of messages in one pass of delivery, as numbers; it sends and marks nothing."""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["DeliveryReport", "add_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """What one pass over the outbox did; a merged message counts once, what is put off by notifications."""

    sent: int = 0
    put_off: int = 0
    """Those kept back because another of their channel could not be sent included."""
    dead: int = 0
    refused: int = 0
    """Those of the dead that their receiver refused: it was reached."""
    logged: int = 0
    """Those of the sent that could only tell the log that a channel fails."""
    kept_back: int = field(default=0, compare=False)
    """Notifications that wait at its end behind channels that are parked or were out of reach."""

    @property
    def unreachable(self) -> bool:
        """Whether something was due and no channel could be reached."""
        return self.sent == self.logged and self.put_off + self.dead > self.refused


def add_up(reports: Iterable[DeliveryReport]) -> DeliveryReport:
    """What became of all of them together."""
    total = DeliveryReport()
    for report in reports:
        total = DeliveryReport(
            sent=total.sent + report.sent,
            put_off=total.put_off + report.put_off,
            dead=total.dead + report.dead,
            refused=total.refused + report.refused,
            logged=total.logged + report.logged,
        )
    return total
