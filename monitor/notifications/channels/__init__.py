"""One module per channel type. A channel sends a message once and returns the result; it never retries."""

from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from monitor.notifications.messages import Message

__all__ = ["NO_REPORTS", "Channel", "SendOutcome", "SendResult", "SupportsResend", "attempt", "send_with_fallback"]


class SendOutcome(StrEnum):
    """How one attempt to send ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"
    """The receiver refuses this message: sending it again does not help."""
    SUSPENDED = "suspended"
    """The receiver refuses the sender: nothing is delivered until the channel's settings are fixed."""


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one attempt; its reason holds no secret."""

    outcome: SendOutcome
    reason: str
    retry_after: timedelta | None = None
    certain: bool = True
    """False when the receiver may have accepted the message although it sent no response."""
    complete: bool = True
    """False when the receiver accepted the message only for a part of the recipients; the reason names the others."""
    deferred: tuple[str, ...] = ()
    """Of those, the recipients to whom the message is sent again."""


NO_REPORTS = SendResult(outcome=SendOutcome.REFUSED, reason="its receiver takes alerts and no reports")
"""The result of a report to a channel that raises alerts."""


class Channel(Protocol):
    """One configured channel."""

    @property
    def threaded(self) -> bool:
        """Whether the receiver groups messages by thread: then only messages of one thread are merged."""

    async def send(self, message: Message, *, key: str, plain: bool = False) -> SendResult:
        """Sends a message once. Never raises for errors of the network or the receiver.

        The key is the same on every attempt to deliver this message, so that receivers can deduplicate. `plain` is the
        simplest form that the receiver accepts, after it refused the usual one.
        """


@runtime_checkable
class SupportsResend(Protocol):
    """A channel whose receiver forgets an alert that is not sent again."""

    async def resend(self, messages: Sequence[Message], *, at: datetime) -> SendResult:
        """Sends the open incidents of this channel again: one opening for each, with its state at the present time."""


async def send_with_fallback(channel: Channel, message: Message, *, key: str) -> SendResult:
    """Sends a message and, if the receiver refuses it, once more in the simplest form.

    The second payload has its own key: a receiver that remembers keys would repeat its refusal.
    """
    result = await attempt(channel.send(message, key=key))
    if result.outcome is not SendOutcome.REFUSED:
        return result
    return await attempt(channel.send(message, key=f"{key}-plain", plain=True))


async def attempt(sending: Awaitable[SendResult]) -> SendResult:
    """The result of sending. An error that nobody foresaw ends this attempt, and nothing else: it is tried again."""
    try:
        return await sending
    except Exception as error:  # noqa: BLE001  # libraries raise anything, whatever a receiver says
        import structlog

        structlog.get_logger().exception("channel_raised")
        reason = f"the attempt failed ({type(error).__name__}); the log has the details"
        return SendResult(outcome=SendOutcome.RETRY, reason=reason, certain=False)
