"""Tries the channels: what their settings say without sending, or with a test message that is marked as one."""

import uuid
from datetime import datetime
from urllib.parse import urlsplit

from monitor.app import build_channel, utcnow, validate_channels
from monitor.cli.doctor.findings import Finding, Level, with_full_stop
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
    """The setting that says where a channel's messages go."""
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
    """Whether a channel's secrets can be read, and where its messages go; nothing is sent."""
    if isinstance(channel, LogConfig):
        return _finding(channel, Level.OK, "writes to the monitor's own log.", at)
    try:
        for secret in iter_secrets(channel):
            secret.reveal()
        where = _destination(channel)
    except (ConfigError, ValueError) as error:
        message = with_full_stop(str(error)) if isinstance(error, ConfigError) else "its URL can't be taken apart."
        return _finding(channel, Level.PROBLEM, message, at)
    return _finding(channel, Level.OK, f"{where}; --send-test sends a message there.", at)


def _destination(channel: ChannelConfig) -> str:
    """Where messages go, without what is secret of it. Raises ConfigError and ValueError."""
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
            raise TypeError(f"nobody said where a channel of the type {channel.type} leads")


async def send_test(channel: ChannelConfig, config: Config, at: SettingLocation) -> Finding:
    """Sends a test message for real, once, and tells how that ended."""
    test_message = build_test_message(channel.name, config.environment, at=utcnow())
    result = await send_with_fallback(build_channel(channel), test_message, key=uuid.uuid4().hex)
    if result.outcome is SendOutcome.DELIVERED:
        return _finding(
            channel, Level.OK, f"a test message was {_DELIVERED_TEXTS.get(result.reason, result.reason)}.", at
        )
    return _finding(channel, Level.PROBLEM, with_full_stop(f"{_OUTCOME_TEXTS[result.outcome]}: {result.reason}"), at)


_DELIVERED_TEXTS = {"accepted": "sent and accepted", "logged": "written to the log"}
_OUTCOME_TEXTS = {
    SendOutcome.RETRY: "a test message did not get through, which a later attempt may cure",
    SendOutcome.REFUSED: "the receiver refuses the message",
    SendOutcome.SUSPENDED: "the receiver refuses the sender, or its address is wrong",
}


def build_test_message(channel: str, environment: str, *, at: datetime) -> Message:
    """A message that nobody can take for an incident."""
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


def _finding(channel: ChannelConfig, level: Level, message: str, at: SettingLocation) -> Finding:
    return Finding(part=channel.name, level=level, message=message, setting=at.setting, location=at.where)
