"""The end of a silence: what it kept back and is open still is told now.

It is called in the transaction that claims messages, and sends nothing itself. Of several processes that look at once
one tells an incident.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.recorder import IncidentRecorder, Router
from monitor.incidents.silences import active_silence, describe_silence_end
from monitor.model import Cause, Incident
from monitor.notifications.messages import MessageKind

_OPENINGS = ("opened", "reopened")


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceExpiry:
    """Tells what silences kept back, for the incidents of an environment."""

    environment: str
    route: Router
    channel_router: Callable[[Connection], Router]
    """Names the channels for the incident of a channel, which is not told on those that fail."""

    def notify_expired(self, conn: Connection, *, now: datetime) -> int:
        """Tells the openings that no silence in force keeps back any more.

        1. The untold incidents are locked; those that somebody else has locked are left to them, or to the next call.
        2. What another silence in force matches stays untold, under that one.
        3. For each other one the event, the message and the row are written together: a second call finds nothing.

        Args:
            conn: a writing transaction.
            now: when (aware).

        Returns:
            How many were told.
        """
        # First, for it locks the incidents of channels in their order, as everybody does who changes them.
        channel_router = self.channel_router(conn)
        silenced = incident_store.silenced_openings(conn, environment=self.environment)
        active = silence_store.active(conn, now=now) if silenced else ()
        notified = 0
        for incident in silenced:
            silence = active_silence(incident, active, now=now)
            recorder = IncidentRecorder(
                conn=conn,
                target=incident.target,
                environment=self.environment,
                route=channel_router if incident.cause is Cause.CHANNEL_FAILING else self.route,
                now=now,
                silences=active,
            )
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
                ("kept back", f"since {opening.at if opening else notified.opened_at:%Y-%m-%d %H:%M} UTC; {reason}"),
            ),
        )

    def _reason(self, recorder: IncidentRecorder, incident: Incident) -> str:
        kept_by = silence_store.find(recorder.conn, incident.silence_id or 0)
        return describe_silence_end(kept_by, now=recorder.now) if kept_by else f"silence {incident.silence_id} ended"
