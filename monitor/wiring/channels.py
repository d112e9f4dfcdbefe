"""Channels as configured, and the one request that each message is."""

import hashlib
import time
from urllib.parse import urlsplit

from monitor.channels import Channel
from monitor.channels.log import LogChannel
from monitor.channels.slack import SlackChannel
from monitor.channels.webhook import WebhookChannel
from monitor.client.client import Client
from monitor.client.wire import HttpxWire
from monitor.config import ChannelConfig
from monitor.exchange import Answer, Request
from monitor.log import masked
from monitor.wiring.clients import reader

__all__ = ["ask_once", "channel_of", "fingerprint"]

CHANNEL_TIMEOUT_S = 15.0
"""Wall-clock seconds for one attempt to reach a channel."""


def channel_of(config: ChannelConfig) -> Channel:
    """The channel that a configuration describes."""
    if config.url is None:
        return LogChannel()
    make = SlackChannel if config.type == "slack" else WebhookChannel
    return make(reader(config.url), ask_once)


async def ask_once(request: Request, *, timeout_s: float = CHANNEL_TIMEOUT_S, attempts: int = 1) -> Answer:
    """Sends one request to where its absolute URL says, once, without credentials of any target.

    Args:
        request: what to send.
        timeout_s: wall-clock seconds for all of it.
        attempts: how often it may be sent, in even shares of that time, where once was not enough.

    Raises:
        ValueError: the URL can't be taken apart.
    """
    url = urlsplit(request.path)
    wire = HttpxWire(base_url=f"{url.scheme}://{url.netloc}")
    try:
        client = Client(wire=wire, mask=masked, attempt_timeout_s=timeout_s / attempts, max_attempts=attempts)
        return await client.ask(request, deadline_s=time.monotonic() + timeout_s)
    finally:
        await wire.close()


def fingerprint(config: ChannelConfig) -> str:
    """What a channel's settings are called together."""
    return hashlib.sha256(config.url.reveal().encode()).hexdigest() if config.url else ""
