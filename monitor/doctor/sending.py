"""Tries the channels: what their settings say without sending, or with a test message that is marked as one."""

import uuid
from datetime import datetime
from urllib.parse import urlsplit

from monitor.channels import Ending, send_fitting
from monitor.config import ChannelConfig, Config
from monitor.doctor.places import Place
from monitor.errors import ConfigError
from monitor.incidents.message import Message, MessageKind
from monitor.incidents.words import channel_target
from monitor.model import Cause, Severity, Team
from monitor.report.doctor import Finding, Level, ended
from monitor.wiring import channel_of, utcnow

__all__ = ["look_at_channel", "message", "send_test"]


def look_at_channel(channel: ChannelConfig, at: Place) -> Finding:
    """Whether a channel's URL can be read, and to which host it leads; nothing is sent."""
    if channel.url is None:
        return _finding(channel, Level.OK, "writes to the monitor's own log.", at)
    try:
        host = urlsplit(channel.url.reveal()).hostname or ""
    except (ConfigError, ValueError) as error:
        says = ended(str(error)) if isinstance(error, ConfigError) else "its URL can't be taken apart."
        return _finding(channel, Level.PROBLEM, says, at)
    return _finding(channel, Level.OK, f"its URL leads to {host}; --send-test sends a message there.", at)


async def send_test(channel: ChannelConfig, config: Config, at: Place) -> Finding:
    """Sends a test message for real, once, and tells how that ended."""
    told = message(channel.name, config.environment, at=utcnow())
    verdict = await send_fitting(channel_of(channel), told, key=uuid.uuid4().hex)
    if verdict.ending is Ending.DELIVERED:
        return _finding(channel, Level.OK, f"a test message was {_DELIVERED.get(verdict.reason, verdict.reason)}.", at)
    return _finding(channel, Level.PROBLEM, ended(f"{_ENDINGS[verdict.ending]}: {verdict.reason}"), at)


_DELIVERED = {"accepted": "sent and accepted", "logged": "written to the log"}
_ENDINGS = {
    Ending.RETRY: "a test message did not get through, which a later attempt may cure",
    Ending.REFUSED: "the receiver refuses the message",
    Ending.PARKED: "the receiver refuses the sender, or its address is wrong",
}


def message(channel: str, environment: str, *, at: datetime) -> Message:
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


def _finding(channel: ChannelConfig, level: Level, says: str, at: Place) -> Finding:
    return Finding(part=channel.name, level=level, says=says, setting=at.setting, place=at.where)
