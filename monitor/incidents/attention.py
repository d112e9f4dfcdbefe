"""Why no message comes about an incident: who looks after it, and what keeps messages back. Pure."""

from collections.abc import Sequence

from monitor.incidents.silencing import in_words, matching
from monitor.model import Incident, IncidentState, Silence

__all__ = ["attention", "taken_on"]


def attention(incident: Incident, silences: Sequence[Silence]) -> tuple[str, ...]:
    """Sentences without a full stop, as in `silenced by silence 3 until 2026-03-01 06:00 UTC (deploy)`.

    Args:
        incident: open or over.
        silences: those in force.
    """
    said = (taken_on(incident), _silenced(incident, silences))
    return tuple(sentence for sentence in said if sentence)


def taken_on(incident: Incident) -> str:
    """Who looks after an incident since when; empty when nobody does."""
    if incident.state is not IncidentState.ACKNOWLEDGED or incident.acknowledged_at is None:
        return ""
    return f"acknowledged by {incident.acknowledged_by or 'somebody'}, {incident.acknowledged_at:%Y-%m-%d %H:%M:%S} UTC"


def _silenced(incident: Incident, silences: Sequence[Silence]) -> str:
    untold = incident.silence_id is not None
    if incident.state is IncidentState.RESOLVED:
        return f"nobody was told: silence {incident.silence_id} kept the opening back" if untold else ""
    silence = matching(incident, silences)
    if silence is not None:
        return f"silenced by {in_words(silence)}" + ("; nobody was told yet" if untold else "")
    return f"silence {incident.silence_id} is over: the opening goes out with the next delivery" if untold else ""
