"""Whether an incident matches what a route or a silence asks for. Pure."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from monitor.model import Incident

__all__ = ["ATTRIBUTES", "Attributes", "Matchers", "attributes_of", "literally", "matches", "mismatch"]

ATTRIBUTES = ("team", "cause", "target", "group", "severity", "environment")
"""What routes and silences can match."""

Attributes = Mapping[str, str | tuple[str, ...]]
"""What an incident is like; of an attribute with several values any may match, and with none none does."""

Matchers = Mapping[str, tuple[str, ...]]
"""Attribute to glob patterns (case counts): all attributes must match, each by any of its patterns."""


def attributes_of(incident: Incident) -> Attributes:
    """What routes and silences see of an incident."""
    return {
        "team": incident.team.value,
        "cause": incident.cause.value,
        "target": incident.target,
        "group": (incident.group,) if incident.group else incident.groups,
        "severity": incident.severity.value,
        "environment": incident.environment,
    }


def matches(matchers: Matchers, attributes: Attributes) -> bool:
    """Whether all matchers match; none at all match everything."""
    return mismatch(matchers, attributes) is None


def mismatch(matchers: Matchers, attributes: Attributes) -> str | None:
    """The first attribute that does not match, or None when all do."""
    return next((name for name, patterns in matchers.items() if not _any(attributes.get(name, ""), patterns)), None)


def literally(text: str) -> str:
    """The pattern that matches this text and no other."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in text)


def _any(value: str | tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    values = (value,) if isinstance(value, str) else value
    return any(fnmatchcase(each, pattern) for each in values for pattern in patterns)
