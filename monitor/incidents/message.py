"""What leaves for people about an incident, before any channel has put it into its own form. Data only."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from monitor.model import Cause, Severity, Team

__all__ = ["Message", "MessageKind"]


class MessageKind(StrEnum):
    """Why a message is sent."""

    OPENED = "opened"
    UPDATED = "updated"
    REMINDER = "reminder"
    RESOLVED = "resolved"
    TEST = "test"
    """Somebody tries the channel: there is no incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What leaves for people: our own words, counts and ids; never the API's text."""

    kind: MessageKind
    incident_id: int
    target: str
    environment: str
    cause: Cause
    severity: Severity
    team: Team
    title: str
    what_to_check: tuple[str, ...]
    safe_message: str | None = None
    """What the product's own users may be told; None for a test, and in messages stored before there was one."""
    facts: tuple[tuple[str, str], ...]
    """Label and value, in reading order: since, evidence, how many, samples, request ids, effect on the run."""
    opened_at: datetime
    at: datetime
    resolved_at: datetime | None = None
