"""The vocabulary that everything else speaks: states, causes and their rank, and one frozen dataclass per concept.

It decides nothing and touches nothing; where a rule is laid down here it is a law of the data (`total = Σ states`).
"""

from monitor.model.incidents import (
    ITEM_CAUSES,
    MONITOR_CAUSES,
    REQUEST_CAUSES,
    Cause,
    Evidence,
    Incident,
    IncidentKey,
    IncidentState,
    Severity,
    Silence,
    Team,
    rank,
)
from monitor.model.items import BadBody, ItemCompletion, ItemState, ItemStatus, Outcome, Reason, SyncLogEntry
from monitor.model.runs import FINISHED, RunStatus, Snapshot, SyncReport
from monitor.model.shared_state import ChannelState, LearnedLimits

__all__ = [
    "FINISHED",
    "ITEM_CAUSES",
    "MONITOR_CAUSES",
    "REQUEST_CAUSES",
    "BadBody",
    "Cause",
    "ChannelState",
    "Evidence",
    "Incident",
    "IncidentKey",
    "IncidentState",
    "ItemCompletion",
    "ItemState",
    "ItemStatus",
    "LearnedLimits",
    "Outcome",
    "Reason",
    "RunStatus",
    "Severity",
    "Silence",
    "Snapshot",
    "SyncLogEntry",
    "SyncReport",
    "Team",
    "rank",
]
