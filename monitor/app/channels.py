"""Channels as configured, the one request that each message is, and what a channel's settings are called together.

A type of channel is loaded when one of it is configured, and the HTTP client when something is sent.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from monitor.app.clients import secret_reader
from monitor.config import (
    AlertmanagerConfig,
    AppriseConfig,
    ChannelConfig,
    EmailConfig,
    PagerDutyConfig,
    Secret,
    SlackConfig,
    WebhookConfig,
)
from monitor.errors import ConfigError
from monitor.logs import redact_text
from monitor.model.http import CallResult, Request
from monitor.notifications.channels import Channel
from monitor.notifications.channels.log import LogChannel

CHANNEL_TIMEOUT_S = 15.0
"""Wall-clock seconds for one attempt to reach a channel."""

_RESOLVE_TIMEOUT = timedelta(minutes=15)


def build_channel(config: ChannelConfig, *, resolve_timeout: timedelta = _RESOLVE_TIMEOUT) -> Channel:
    """The channel that a configuration describes.

    Args:
        config: of any type.
        lasting: how long an alert is to last at a receiver that forgets; longer than the time between refreshes.
    """
    match config:
        case WebhookConfig():
            return _build_webhook(config)
        case SlackConfig():
            from monitor.notifications.channels.slack import SlackChannel

            return SlackChannel(secret_reader(config.url), send_once)
        case EmailConfig():
            return _build_email(config)
        case PagerDutyConfig():
            return _build_pagerduty(config)
        case AlertmanagerConfig():
            return _build_alertmanager(config, resolve_timeout)
        case AppriseConfig():
            from monitor.notifications.channels.apprise import AppriseChannel

            return AppriseChannel(secret_reader(config.url), timeout_s=CHANNEL_TIMEOUT_S)
        case _:
            return LogChannel()


def validate_channels(channels: Sequence[ChannelConfig]) -> None:
    """Makes sure that Apprise knows the services of its channels, for which it has to be loaded; contacts nobody.

    Raises:
        ConfigError: it does not know one; with every such problem.
    """
    services = [channel for channel in channels if isinstance(channel, AppriseConfig)]
    if not services:
        return
    from monitor.notifications.channels.apprise import known_service

    problems = [
        f"channels.{channel.name}.url names no service that Apprise knows, or lacks a part of it: compare it with "
        "Apprise's page of that service"
        for channel in services
        if known_service(channel.url.reveal()) is None
    ]
    if problems:
        raise ConfigError(problems)


def fingerprint(config: ChannelConfig) -> str:
    """Names the settings of a channel as they are now, secrets and certificates included: 32 hexadecimal digits.

    It is stored, so it must not help anybody to a secret: scrypt (RFC 7914) makes each guess cost about 10 ms and
    4 MiB. A file that can't be read counts as one that is not there.
    """
    settings = {name: _current_value(getattr(config, name)) for name in type(config).model_fields}
    if isinstance(config, EmailConfig) and config.ca_file is not None:
        settings["ca_file"] = [config.ca_file, _file_digest(config.ca_file)]
    written = json.dumps(settings, sort_keys=True).encode()
    return hashlib.scrypt(written, salt=f"channel:{config.name}".encode(), n=1 << 12, r=8, p=1, dklen=16).hex()


async def send_once(request: Request, *, timeout_s: float = CHANNEL_TIMEOUT_S, attempts: int = 1) -> CallResult:
    """Sends one request to where its absolute URL says, once, without credentials of any target.

    Args:
        request: what to send.
        timeout_s: wall-clock seconds for all of it.
        attempts: how often it may be sent, in even shares of that time, where once was not enough.

    Raises:
        ValueError: the URL can't be taken apart.
    """
    from monitor.client.client import Client
    from monitor.client.transports.httpx_transport import HttpxTransport

    url = urlsplit(request.path)
    transport = HttpxTransport(base_url=f"{url.scheme}://{url.netloc}")
    try:
        client = Client(
            transport=transport, mask=redact_text, attempt_timeout_s=timeout_s / attempts, max_attempts=attempts
        )
        return await client.send(request, deadline_s=time.monotonic() + timeout_s)
    finally:
        await transport.close()


def _build_webhook(config: WebhookConfig) -> Channel:
    from monitor.notifications.channels.webhook import WebhookChannel, signer

    sign = signer(secret_reader(config.secret), _utcnow) if config.secret is not None else None
    return WebhookChannel(secret_reader(config.url), send_once, sign=sign)


def _build_pagerduty(config: PagerDutyConfig) -> Channel:
    from monitor.notifications.channels.pagerduty import ENQUEUE_URL, PagerDutyChannel

    url = secret_reader(config.url) if config.url is not None else lambda: ENQUEUE_URL
    return PagerDutyChannel(url, secret_reader(config.routing_key), send_once)


def _build_alertmanager(config: AlertmanagerConfig, resolve_timeout: timedelta) -> Channel:
    from monitor.notifications.channels.alertmanager import AlertmanagerChannel

    authorization = _build_authorization(config)
    return AlertmanagerChannel(
        secret_reader(config.url), send_once, resolve_timeout=resolve_timeout, authorization=authorization
    )


def _build_email(config: EmailConfig) -> Channel:
    # the standard library's mail takes longer to import than all other channels together
    from monitor.notifications.channels.email import EmailChannel
    from monitor.notifications.channels.smtp import MailServer, Security

    server = MailServer(
        host=config.host,
        port=config.port,
        security=Security(config.security),
        user=config.user,
        read_password=secret_reader(config.password) if config.password is not None else None,
        ca_file=config.ca_file,
    )
    return EmailChannel(server, sender=config.from_, recipients=config.to, timeout_s=CHANNEL_TIMEOUT_S)


def _build_authorization(config: AlertmanagerConfig) -> Callable[[], str] | None:
    from monitor.notifications.channels.alertmanager import basic_auth, bearer_auth

    if config.token is not None:
        read_token = secret_reader(config.token)
        return lambda: bearer_auth(read_token())
    if config.user is not None and config.password is not None:
        user, read_password = config.user, secret_reader(config.password)
        return lambda: basic_auth(user, read_password())
    return None


def _current_value(value: object) -> object:
    if not isinstance(value, Secret):
        return value
    try:
        return value.reveal()
    except ConfigError:
        return None


def _file_digest(path: str) -> str | None:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def _utcnow() -> datetime:
    return datetime.now(UTC)
