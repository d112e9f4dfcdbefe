"""Checks the channels: their settings, or with a test message that is marked as one."""

import uuid
from datetime import datetime
from urllib.parse import urlsplit

from monitor.app import build_channel, utcnow, validate_channels
from monitor.cli.doctor.findings import Finding, Level, finding_at, with_full_stop
from monitor.cli.doctor.locations import SettingLocation
from monitor.config import (
    AlertmanagerConfig,
    AppriseConfig,
    ChannelConfig,
    Config,
    EmailConfig,
    LogConfig,
    PagerDutyConfig,
    SlackConfig,
    WebhookConfig,
)
from monitor.config.section import iter_secrets
from monitor.errors import ConfigError
from monitor.model import Cause, Severity, Team
from monitor.notifications.channels import SendOutcome, send_with_fallback
from monitor.notifications.channels.apprise import known_service
from monitor.notifications.channels.pagerduty import ENQUEUE_URL
from monitor.notifications.messages import Message, MessageKind
from monitor.notifications.texts import channel_target


def destination_setting(channel: ChannelConfig) -> str:
    """The setting with a channel's destination."""
    match channel:
        case LogConfig():
            return "type"
        case EmailConfig():
            return "host"
        case PagerDutyConfig():
            return "routing_key"
        case _:
            return "url"


def check_channel(channel: ChannelConfig, at: SettingLocation) -> Finding:
    """Whether a channel's secrets can be read, and its destination; nothing is sent."""
    if isinstance(channel, LogConfig):
        return finding_at(at, channel.name, Level.OK, "writes to the monitor's own log.")
    try:
        for secret in iter_secrets(channel):
            secret.reveal()
        where = _destination(channel)
    except (ConfigError, ValueError) as error:
        message = with_full_stop(str(error)) if isinstance(error, ConfigError) else "its URL is malformed."
        return finding_at(at, channel.name, Level.PROBLEM, message)
    return finding_at(at, channel.name, Level.OK, f"{where}; --send-test sends a message there.")


def _destination(channel: ChannelConfig) -> str:
    """A channel's destination, without secrets. Raises ConfigError and ValueError."""
    match channel:
        case EmailConfig():
            recipients = "1 address" if len(channel.to) == 1 else f"{len(channel.to)} addresses"
            return f"its mails to {recipients} go to {channel.host}:{channel.port} ({channel.security})"
        case PagerDutyConfig():
            url = channel.url.reveal() if channel.url is not None else ENQUEUE_URL
            return f"its events go to {urlsplit(url).hostname}"
        case AppriseConfig():
            validate_channels([channel])
            return f"its URL is one of {known_service(channel.url.reveal())}"
        case WebhookConfig() | SlackConfig() | AlertmanagerConfig():
            return f"its URL leads to {urlsplit(channel.url.reveal()).hostname or ''}"
        case _:
            raise TypeError(f"no destination is known for channels of the type {channel.type}")


async def send_test(channel: ChannelConfig, config: Config, at: SettingLocation) -> Finding:
    """Sends a test message, once."""
    test_message = build_test_message(channel.name, config.environment, at=utcnow())
    result = await send_with_fallback(build_channel(channel), test_message, key=uuid.uuid4().hex)
    if result.outcome is SendOutcome.DELIVERED:
        return finding_at(
            at, channel.name, Level.OK, f"a test message was {_DELIVERED_TEXTS.get(result.reason, result.reason)}."
        )
    return finding_at(
        at, channel.name, Level.PROBLEM, with_full_stop(f"{_OUTCOME_TEXTS[result.outcome]}: {result.reason}")
    )


_DELIVERED_TEXTS = {"accepted": "sent and accepted", "logged": "written to the log"}
_OUTCOME_TEXTS = {
    SendOutcome.RETRY: "a test message was not delivered; a later attempt may succeed",
    SendOutcome.REFUSED: "the receiver refuses the message",
    SendOutcome.SUSPENDED: "the receiver refuses the sender, or its address is wrong",
}


def build_test_message(channel: str, environment: str, *, at: datetime) -> Message:
    """A message that can't be mistaken for an incident."""
    return Message(
        kind=MessageKind.TEST,
        incident_id=0,
        target=channel_target(channel),
        environment=environment,
        cause=Cause.CHANNEL_FAILING,
        severity=Severity.INFO,
        team=Team.MONITOR,
        title="Test message: nothing is wrong",
        what_to_check=(),
        facts=(("sent by", "ingestion-monitor doctor --send-test"), ("channel", channel)),
        opened_at=at,
        at=at,
    )
