"""What a person's word does to an incident: somebody looks after it, or says that it is over. Pure."""

from dataclasses import dataclass

from monitor.incidents.rules import Action, Decision, Why
from monitor.model import Incident, IncidentState

__all__ = ["Word", "acknowledge", "resolve_by_hand"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Whose word it is."""

    by: str
    comment: str = ""

    @property
    def reason(self) -> str:
        """For an event: `by ana: I am on it`."""
        return f"by {self.by}: {self.comment}" if self.comment else f"by {self.by}"

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """For a message about an end: label and value."""
        return (("resolved by", self.by), *self.remark)

    @property
    def remark(self) -> tuple[tuple[str, str], ...]:
        """The comment alone, for a message that names the person anyway."""
        return (("comment", self.comment),) if self.comment else ()


def acknowledge(incident: Incident) -> Decision:
    """Decides whether an incident can be acknowledged: an open one that nobody looks after yet."""
    if incident.state is IncidentState.OPEN:
        return Decision(cause=incident.cause, action=Action.ACKNOWLEDGE, why=Why.TAKEN_ON)
    why = Why.OVER if incident.state is IncidentState.RESOLVED else Why.TAKEN_BEFORE
    return Decision(cause=incident.cause, action=Action.NOTHING, why=why)


def resolve_by_hand(incident: Incident) -> Decision:
    """Decides whether an incident can be resolved by hand: one that is not over yet."""
    if incident.state is IncidentState.RESOLVED:
        return Decision(cause=incident.cause, action=Action.NOTHING, why=Why.OVER)
    return Decision(cause=incident.cause, action=Action.RESOLVE, why=Why.BY_HAND)
