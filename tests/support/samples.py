"""Complete values for tests that use only one or two of their fields."""

from datetime import UTC, datetime, timedelta

from monitor.incidents.decide import EvidencePoint
from monitor.model import Cause, Incident, IncidentState, Severity, Team
from monitor.notifications.messages import Message, MessageKind
from monitor.notifications.texts import safe_message

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def incident(**fields):
    """An open incident `unauthorized` of the target gloo-prod."""
    defaults = {
        "id": 0, "target": "gloo-prod", "environment": "test", "cause": Cause.UNAUTHORIZED,
        "state": IncidentState.OPEN, "severity": Severity.CRITICAL, "team": Team.CREDENTIALS, "opened_at": NOW,
        "first_evidence_at": NOW - timedelta(minutes=5), "last_evidence_at": NOW, "channels": ("oncall",),
    }  # fmt: skip
    return Incident(**{**defaults, **fields})


def message(incident_id=1, **fields):
    """The opening of an incident `unauthorized`."""
    defaults = {
        "kind": MessageKind.OPENED, "target": "gloo-prod", "environment": "production", "cause": Cause.UNAUTHORIZED,
        "severity": Severity.CRITICAL, "team": Team.CREDENTIALS,
        "title": "gloo-prod: the API rejects the credentials",
        "subject": "gloo-prod: the API rejects the credentials",
        "what_to_check": ("key rotation", "deployment configuration", "revoked keys"),
        "safe_message": safe_message(Cause.UNAUTHORIZED),
        "facts": (
            ("since", "2026-03-01 11:55:00 UTC"),
            ("evidence", "1 × 401 from the token endpoint"),
            ("run 17", "aborted: 120 items tracked, 0 answered, 120 unknown"),
            ("details", "ingestion-monitor incidents show 1"),
        ),
        "opened_at": NOW, "at": NOW,
    }  # fmt: skip
    return Message(incident_id=incident_id, **{**defaults, **fields})


def evidence_points(pattern, *, every=timedelta(minutes=5), now=NOW):
    """Runs, newest first, the newest at `now`.

    Each is a letter of the pattern, oldest first: `x` evidence, `.` none, `m` inhibited, `?` too few answers.
    """
    runs = [
        EvidencePoint(
            run_id=n,
            at=now - every * (len(pattern) - 1 - n),
            evidence=c == "x",
            inhibited=c == "m",
            confirms_recovery=c != "?",
        )
        for n, c in enumerate(pattern)
    ]
    return runs[::-1]
