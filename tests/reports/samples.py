"""Reports and incidents for tests of formatting."""

from dataclasses import replace
from datetime import UTC, datetime

from monitor.model import Cause, Evidence, Incident, IncidentState, RunStatus, Severity, Snapshot, SyncReport, Team
from monitor.runs.close import RunReport

NOW = datetime(2026, 3, 1, 5, 40, tzinfo=UTC)
OPENED = datetime(2026, 3, 1, 3, 10, tzinfo=UTC)
INCIDENT = Incident(
    id=7, target="gloo", environment="production", cause=Cause.ITEMS_FAILED, state=IncidentState.OPEN,
    severity=Severity.WARNING, team=Team.PIPELINE, opened_at=OPENED, first_evidence_at=OPENED, last_evidence_at=NOW,
    member_count=2, peak_count=3, channels=("oncall",),
    evidence=Evidence(cause=Cause.ITEMS_FAILED, count=2, sample_ids=("doc-1", "doc-2")),
)  # fmt: skip
OUTAGE = Evidence(cause=Cause.OUTAGE, count=3, breakdown={"503": 2, "timeout": 1}, request_ids=("req_1",))
REPORT = RunReport(
    target="gloo",
    run_id=41,
    status=RunStatus.COMPLETE,
    snapshot=Snapshot(completed=2),
    sync=SyncReport(read=2, tracked=2),
)


def a_report(**changes):
    return replace(REPORT, **changes)
