"""The end of a silence: openings that it silenced, and that are still open, are notified now.

It runs in the transaction that claims messages, and sends nothing itself. Of several processes, one notifies each.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.recorder import IncidentRecorder, LateOpenings
from monitor.incidents.silences import active_silence, describe_silence_end
from monitor.model import Incident
from monitor.notifications.messages import SILENCED_LABEL, MessageKind

_OPENINGS = ("opened", "reopened")


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceExpiry(LateOpenings):
    """Notifies of silenced openings in one environment."""

    def notify_expired(self, conn: Connection, *, now: datetime) -> int:
        """Enqueues the openings that no active silence matches any more; returns how many.

        Rows that another transaction has locked are skipped. Event, messages and row are written together, so a second
        call finds nothing. An incident that another active silence matches stays silenced, by that one.
        """
        channel_router = self.channel_router(conn)
        silenced = incident_store.silenced_openings(conn, environment=self.environment)
        active = silence_store.active(conn, now=now) if silenced else ()
        notified = 0
        for incident in silenced:
            silence = active_silence(incident, active, now=now)
            recorder = self.recorder(conn, incident, channel_router, now=now, active=active)
            if silence is None:
                self._notify(recorder, incident)
                notified += 1
            elif silence.id != incident.silence_id:
                incident_store.save(conn, replace(incident, silence_id=silence.id))
                recorder.record_silenced(incident, silence.id)
        return notified

    def _notify(self, recorder: IncidentRecorder, incident: Incident) -> None:
        opening = incident_store.last_event(recorder.conn, incident.id, kinds=_OPENINGS)
        notified = replace(
            incident,
            silence_id=None,
            channels=recorder.channels_for(incident),
            last_message_at=recorder.now,
            unnotified_count=0,
        )
        incident_store.save(recorder.conn, notified)
        reason = self._reason(recorder, incident)
        recorder.add_event(
            notified.id, "notified", reason, {"channels": list(notified.channels), "silence_id": incident.silence_id}
        )
        error = opening.data.get("error") if opening else None
        recorder.enqueue(
            MessageKind.OPENED,
            notified,
            again=opening is not None and opening.kind == "reopened",
            error=error if isinstance(error, str) else None,
            notes=(
                (SILENCED_LABEL, f"since {opening.at if opening else notified.opened_at:%Y-%m-%d %H:%M} UTC; {reason}"),
            ),
        )

    def _reason(self, recorder: IncidentRecorder, incident: Incident) -> str:
        silence = silence_store.find(recorder.conn, incident.silence_id or 0)
        return describe_silence_end(silence, now=recorder.now) if silence else f"silence {incident.silence_id} ended"
