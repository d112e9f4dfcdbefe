"""Incidents as runs store them, with evidence, events and messages, for tests of queries and pages."""

from datetime import timedelta

from database.history import MINUTE, HistoryBuilder
from sqlalchemy import update
from support.samples import NOW, incident, message

from monitor.database.engine import writing
from monitor.database.tables import notifications
from monitor.incidents import store as incidents
from monitor.model import Cause, Evidence, IncidentState, RunStatus
from monitor.notifications import outbox


class TroubleBuilder(HistoryBuilder):
    """Writes incidents of a target, `gloo` by default."""

    def __init__(self, engine, *, now=NOW):
        super().__init__(engine)
        self.engine, self.now = engine, now

    def opened(self, *, evidence_id=None, **fields):
        """Stores an incident; returns its id."""
        defaults = {
            "target": "gloo",
            "opened_at": self.now,
            "first_evidence_at": self.now,
            "last_evidence_at": self.now,
        }
        with writing(self.engine) as conn:
            return incidents.open_incident(conn, incident(**{**defaults, **fields}), evidence_id=evidence_id)

    def resolved(self, **fields):
        """Stores an incident that is over; returns its id."""
        ended = fields.pop("resolved_at", self.now)
        number = self.opened(**fields)
        with writing(self.engine) as conn:
            found = incidents.find(conn, number)
            changes = {"id": number, "state": IncidentState.RESOLVED, "resolved_at": ended, **fields}
            defaults = {each: getattr(found, each) for each in ("target", "opened_at", "first_evidence_at")}
            incidents.save(conn, incident(**{**defaults, **changes}))
        return number

    def run_with(self, at, *pieces, status=RunStatus.ABORTED, **closing):
        """Stores a run that started at a time with evidence; returns its id and those of the evidence."""
        run_id = self.run(at, status, **closing)
        with writing(self.engine) as conn:
            ids = incidents.add_evidence(conn, target="gloo", run_id=run_id, at=at + MINUTE, pieces=pieces)
        return run_id, [*ids.values()]

    def happened(self, number, at, kind, reason="because", *, run_id=None, **data):
        """Stores an event of an incident."""
        with writing(self.engine) as conn:
            incidents.add_event(
                conn, incident_id=number, run_id=run_id, at=at, kind=kind, reason=reason, data=data or None
            )

    def sent(self, number, at, *channels, **delivery):
        """Stores the message of an opening to each channel, with its delivery."""
        with writing(self.engine) as conn:
            outbox.enqueue(conn, message(number, target="gloo"), channels=channels, now=at)
            mine = notifications.c.incident_id == number
            if delivery:
                conn.execute(
                    update(notifications).where(mine, notifications.c.channel.in_(channels)).values(**delivery)
                )

    def rejected(self, *, runs=4, **evidence_fields):
        """An incident `unauthorized` that opened in the second of some one-minute runs; returns its id."""
        start = self.now - runs * MINUTE
        found = []
        for n in range(runs):
            seen = Evidence(cause=Cause.UNAUTHORIZED, count=2, breakdown={"401": 2}, **evidence_fields)
            found.append(self.run_with(start + n * MINUTE, seen, answered=0))
        opened = start + 2 * MINUTE
        number = self.opened(
            first_evidence_at=start + MINUTE, opened_at=opened, last_evidence_at=self.now, evidence_id=found[-1][1][0]
        )
        self.happened(
            number,
            opened,
            "opened",
            "evidence in 2 of the last 2 runs",
            run_id=found[1][0],
            channels=["oncall", "mail"],
        )
        self.sent(number, opened, "oncall", status="sent", sent_at=opened + timedelta(seconds=2), attempts=1)
        self.sent(number, opened, "mail", status="dead", died_at=self.now, attempts=9, last_error="550 refused")
        return number
