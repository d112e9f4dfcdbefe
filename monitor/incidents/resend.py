"""Resends open alerts to receivers that expire them otherwise, such as Alertmanager.

It bypasses the outbox: it only repeats what was sent, so a failure is repaired by the next resend.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import msgspec
import structlog
from sqlalchemy import Engine

from monitor.database.engine import reading, writing
from monitor.incidents import store as incident_store
from monitor.notifications import channel_state
from monitor.notifications.channels import Channel, SendOutcome, SupportsResend, attempt
from monitor.notifications.messages import Message, MessageKind, render, with_links

RESEND_INTERVAL = timedelta(minutes=1)
"""As often as Prometheus sends to Alertmanager. Of many processes, one at a time does it."""

_MAX_INCIDENTS = 10_000


class AlertResender(msgspec.Struct, frozen=True, kw_only=True):
    """Resends the open incidents of one environment."""

    engine: Engine
    environment: str
    utcnow: Callable[[], datetime]
    public_url: str | None = None
    """The page's address, to which alerts link."""

    async def resend(self, channels: Mapping[str, Channel]) -> None:
        """Resends to each channel that needs it and is due. Raises StoreError if our database can't be used."""
        for name, channel in channels.items():
            if isinstance(channel, SupportsResend):
                at = self.utcnow()
                messages = await asyncio.to_thread(self._due, name, at)
                if messages:
                    result = await attempt(channel.resend(messages, at=at))
                    if result.outcome is not SendOutcome.DELIVERED:
                        structlog.get_logger().warning("alerts_not_resent", channel=name, reason=result.reason)

    def _due(self, name: str, now: datetime) -> list[Message]:
        """The open alerts that were sent to a channel, if it is due and neither suspended nor blocked."""
        with reading(self.engine) as conn:
            state = channel_state.load_all(conn).get(name)
        if state is not None and (state.suspended_at is not None or (state.blocked_until or now) > now):
            return []
        with writing(self.engine) as conn:
            if not channel_state.claim_resend(conn, name, now=now, before=now - RESEND_INTERVAL):
                return []
        with reading(self.engine) as conn:
            found = incident_store.list_incidents(conn, open_only=True, limit=_MAX_INCIDENTS)
        notified = [each for each in found if name in each.channels and each.environment == self.environment]
        openings = [render(MessageKind.OPENED, incident, None, now=now) for incident in notified]
        return [with_links(opening, self.public_url) for opening in openings]
