"""Ways to reach people: one file per channel. A channel sends once and says how it ended; it never retries."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

from monitor.notifications.messages import Message

__all__ = ["Channel", "SendOutcome", "SendResult", "SupportsResend", "send_with_fallback"]


class SendOutcome(StrEnum):
    """How one attempt to send ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"
    """The receiver refuses this very message: sending it again is of no use."""
    SUSPENDED = "suspended"
    """The receiver refuses the sender: nothing gets through until somebody mends the channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """An ending with its reason, in words that hold no secret."""

    outcome: SendOutcome
    reason: str
    retry_after: timedelta | None = None
    """When the receiver said to come back."""
    certain: bool = True
    """Whether it is known that the receiver did not take it: not so when no answer came to what was sent."""


class Channel(Protocol):
    """One configured way to reach people."""

    @property
    def threaded(self) -> bool:
        """Whether its receiver files messages by thread, so that only those of one thread can be merged."""
        ...

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Sends a message once.

        Args:
            message: what to tell.
            key: the same on every attempt to deliver this message, for receivers that can make it once.
            plain: in the simplest form that the receiver knows, after it refused the usual one.

        Returns:
            How it ended. Never raises for what the network or the receiver does.
        """
        ...


@runtime_checkable
class SupportsResend(Protocol):
    """A channel whose receiver forgets what it is not told again."""

    async def resend(self, messages: Sequence[Message], *, at: datetime) -> SendResult:
        """Tells again what is open.

        Args:
            messages: the openings of all that is open and was told there, as it is now.
            at: now (aware).
        """
        ...


async def send_with_fallback(channel: Channel, message: Message, *, key: str) -> SendResult:
    """Sends a message and, only if that form of it is refused, once more in the simplest form.

    The second has a key of its own: it is another payload, and whoever remembers keys would repeat the refusal.
    """
    result = await channel.send(message, key=key)
    if result.outcome is not SendOutcome.REFUSED:
        return result
    return await channel.send(message, key=f"{key}-plain", plain=True)
