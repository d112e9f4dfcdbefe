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
    ACKNOWLEDGED = "acknowledged"
    """Somebody looks after it: there are no reminders any more."""
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
    """What it is about and why it is sent, in one line."""
    what_to_check: tuple[str, ...]
    safe_message: str | None = None
    """What the product's own users may be told; None for a test, and in messages stored before there was one."""
    facts: tuple[tuple[str, str], ...]
    """Label and value, in reading order: since, evidence, how many, samples, request ids, effect on the run."""
    opened_at: datetime
    at: datetime
    resolved_at: datetime | None = None
    subject: str = ""
    """What it is about: the title without why it is sent; empty in messages stored before there was one."""
    group: str = ""
    """The group of items that it is about, where there is an incident per group."""
    commands: tuple[tuple[str, str], ...] = ()
    """What to do about it, and the command that does it: `acknowledge`, `silence`; empty when it is over."""
    thread: str | None = None
    """What a receiver files it under, the same from opening to resolution; known only when it is sent."""
    others_open: int = 0
    """Incidents of its thread that are open still, though this one is not (taken on, over); known when it is sent."""
    parts: tuple["Message", ...] = ()
    """The messages that it stands for, where several of one cause and kind were merged; else empty."""
