"""The gate's answer as JSON values."""

from datetime import datetime
from typing import Any

from monitor.incidents.gate import GateAnswer

__all__ = ["gate_json"]


def gate_json(said: GateAnswer) -> dict[str, Any]:
    """An answer as `gate --json` prints it; of several incidents the highest-ranked one stands first and by itself."""
    first = said.by[0] if said.by else None
    return {
        "target": said.target,
        "proceed": said.proceed,
        "reason": said.reason.value,
        "cause": first.cause.value if first else None,
        "incident_id": first.incident_id if first else None,
        "since": _iso(said.since),
        "last_run_at": _iso(said.last_run_at),
        "text": said.text,
        "incidents": [
            {"cause": each.cause.value, "incident_id": each.incident_id, "since": _iso(each.since)} for each in said.by
        ],
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
