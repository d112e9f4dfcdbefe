"""Builds channels from their settings, sends their requests, and computes fingerprints of settings.

A channel's module is imported when such a channel is configured, the HTTP client when something is sent.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import singledispatch
from pathlib import Path
from urllib.parse import urlsplit

from monitor.app.clients import secret_reader
from monitor.client.throttle import utcnow
from monitor.config import (
    AlertmanagerConfig,
    AppriseConfig,
    ChannelConfig,
    Config,
    EmailConfig,
    LogConfig,
    PagerDutyConfig,
    Secret,
    SlackConfig,
    WebhookConfig,
)
from monitor.config.urls import parse_mailbox
from monitor.errors import ConfigError
from monitor.logs import redact_text
from monitor.model.http import CallResult, Request
from monitor.notifications.channels import Channel, SendResult, send_with_fallback
from monitor.notifications.channels.log import LogChannel
from monitor.notifications.messages import Message, with_links

CHANNEL_TIMEOUT_S = 15.0  # of wall-clock time, for one attempt

_RESOLVE_TIMEOUT = timedelta(minutes=15)


def build_channel(config: ChannelConfig, *, resolve_timeout: timedelta = _RESOLVE_TIMEOUT) -> Channel:
    """The channel for these settings. `resolve_timeout`: when Alertmanager resolves an alert that is not sent again;
    longer than the time between refreshes.
    """
    return _build(config, resolve_timeout)


@singledispatch
def _build(config: ChannelConfig, _: timedelta) -> Channel:
    """Each channel type registers a function of its settings and the resolve timeout."""
    raise TypeError(f"no channel is built from {type(config).__name__}")


@_build.register
def _build_log(_config: LogConfig, _: timedelta) -> Channel:
    return LogChannel()


@_build.register
def _build_slack(config: SlackConfig, _: timedelta) -> Channel:
    from monitor.notifications.channels.slack import SlackChannel

    return SlackChannel(secret_reader(config.url), send_once)


@_build.register
def _build_apprise(config: AppriseConfig, _: timedelta) -> Channel:
    from monitor.notifications.channels.apprise import AppriseChannel

    return AppriseChannel(secret_reader(config.url), timeout_s=CHANNEL_TIMEOUT_S)


async def send_now(config: Config, name: str, message: Message) -> SendResult:
    """Sends a message once through a configured channel, or through `log`, without the outbox."""
    settings = next((each for each in config.channels if each.name == name), None)
    channel = LogChannel() if settings is None else build_channel(settings)
    linked = with_links(message, config.web.public_url)
    return await send_with_fallback(channel, linked, key=uuid.uuid4().hex)


def validate_channels(channels: Sequence[ChannelConfig]) -> None:
    """Checks, without network, that Apprise knows its channels' services. ConfigError names every unknown one."""
    services = [channel for channel in channels if isinstance(channel, AppriseConfig)]
    if not services:
        return
    from monitor.notifications.channels.apprise import known_service

    problems = [
        f"channels.{channel.name}.url names no service that Apprise knows, or is incomplete: compare it with Apprise's "
        "documentation of the service"
        for channel in services
        if known_service(channel.url.reveal()) is None
    ]
    if problems:
        raise ConfigError(problems)


def fingerprint(config: ChannelConfig) -> str:
    """A hash of a channel's current settings, secrets and certificates included: 32 hexadecimal digits.

    It is stored, so it must not reveal secrets: with scrypt (RFC 7914) each guess costs about 10 ms and 4 MiB. A file
    that can't be read counts as missing.
    """
    settings = {name: _current_value(getattr(config, name)) for name in type(config).model_fields}
    if isinstance(config, EmailConfig) and config.ca_file is not None:
        digest = None
        with suppress(OSError):
            digest = hashlib.sha256(Path(config.ca_file).read_bytes()).hexdigest()
        settings["ca_file"] = [config.ca_file, digest]
    written = json.dumps(settings, sort_keys=True).encode()
    return hashlib.scrypt(written, salt=f"channel:{config.name}".encode(), n=1 << 12, r=8, p=1, dklen=16).hex()


async def send_once(request: Request, *, timeout_s: float = CHANNEL_TIMEOUT_S, attempts: int = 1) -> CallResult:
    """Sends one request to its absolute URL, without a target's credentials.

    It takes at most `timeout_s` of wall-clock time, of which each attempt has an equal share.
    Raises ValueError if the URL can't be parsed.
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


@_build.register
def _build_webhook(config: WebhookConfig, _: timedelta) -> Channel:
    from monitor.notifications.channels.webhook import WebhookChannel, signer

    sign = signer(secret_reader(config.secret), utcnow) if config.secret is not None else None
    return WebhookChannel(secret_reader(config.url), send_once, sign=sign)


@_build.register
def _build_pagerduty(config: PagerDutyConfig, _: timedelta) -> Channel:
    from monitor.notifications.channels.pagerduty import ENQUEUE_URL, PagerDutyChannel

    url = secret_reader(config.url) if config.url is not None else lambda: ENQUEUE_URL
    return PagerDutyChannel(url, secret_reader(config.routing_key), send_once)


@_build.register
def _build_alertmanager(config: AlertmanagerConfig, resolve_timeout: timedelta) -> Channel:
    from monitor.notifications.channels.alertmanager import AlertmanagerChannel

    authorization = _build_authorization(config)
    return AlertmanagerChannel(
        secret_reader(config.url), send_once, resolve_timeout=resolve_timeout, authorization=authorization
    )


@_build.register
def _build_email(config: EmailConfig, _: timedelta) -> Channel:
    # slow to import, because of the standard library's mail packages
    from monitor.notifications.channels.email import EmailChannel
    from monitor.notifications.channels.mail_headers import Mailbox
    from monitor.notifications.channels.smtp import MailServer, Security

    server = MailServer(
        host=config.host,
        port=config.port,
        security=Security(config.security),
        user=config.user,
        read_password=secret_reader(config.password) if config.password is not None else None,
        ca_file=config.ca_file,
        ehlo_name=config.ehlo_name,
    )
    return EmailChannel(
        server, sender=Mailbox(*parse_mailbox(config.from_)), recipients=config.to, timeout_s=CHANNEL_TIMEOUT_S
    )


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
