"""Ways to reach people: one file per channel. A channel sends once and says how it ended; it never retries."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from monitor.incidents.message import Message

__all__ = ["Channel", "Ending", "Verdict"]


class Ending(StrEnum):
    """How one attempt to send ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"
    """The receiver refuses this very message: sending it again is of no use."""
    PARKED = "parked"
    """The receiver refuses the sender: nothing gets through until somebody mends the channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An ending with its reason, in words that hold no secret."""

    ending: Ending
    reason: str
    retry_after: timedelta | None = None
    """When the receiver said to come back."""


class Channel(Protocol):
    """One configured way to reach people."""

    async def send(self, message: Message, *, key: str) -> Verdict:
        """Sends a message once.

        Args:
            message: what to tell.
            key: the same on every attempt to deliver this message, for receivers that can make it once.

        Returns:
            How it ended. Never raises for what the network or the receiver does.
        """
        ...
