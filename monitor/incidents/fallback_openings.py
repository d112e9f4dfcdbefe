"""Openings that only the fallback log took count as not sent: once a channel is configured, they are opened there.

It runs in the transaction that claims messages, and sends nothing itself. Of several processes, one notifies each.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.recorder import IncidentRecorder, LateOpenings
from monitor.incidents.silences import active_silence
from monitor.model import ITEM_CAUSES, Incident
from monitor.notifications import outbox
from monitor.notifications.messages import MessageKind
from monitor.notifications.routing import LOG_CHANNEL

_REASON = "until now no channel was configured for it, only the log had it"


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackOpenings(LateOpenings):
    """Opens an environment's incidents on the channels that were configured after they opened."""

    def notify(self, conn: Connection, *, now: datetime) -> int:
        """Enqueues the openings of open incidents that are routed to other channels than the log by now; returns how
        many. A silenced incident waits for the end of its silence.
        """
        channel_router = self.channel_router(conn)
        in_log = incident_store.notified_only_on(conn, channel=LOG_CHANNEL, environment=self.environment)
        active = silence_store.active(conn, now=now) if in_log else ()
        notified = 0
        for incident in in_log:
            recorder = self.recorder(conn, incident, channel_router, now=now, active=active)
            # a channel that refused the opening would refuse it at each delivery
            tried = {LOG_CHANNEL} | outbox.channels_tried(conn, incident_id=incident.id)
            elsewhere = tuple(name for name in recorder.channels_for(incident) if name not in tried)
            if elsewhere and active_silence(incident, active, now=now) is None:
                self._notify(recorder, incident, elsewhere)
                notified += 1
        return notified

    def _notify(self, recorder: IncidentRecorder, incident: Incident, elsewhere: tuple[str, ...]) -> None:
        """The log stays among its channels: the end goes wherever the opening went.

        For the new channels this is the first look at the target, so its item incidents come as one message.
        """
        after = replace(
            incident, channels=(*incident.channels, *elsewhere), last_message_at=recorder.now, unnotified_count=0
        )
        incident_store.save(recorder.conn, after)
        recorder.add_event(incident.id, "notified", _REASON, {"channels": list(elsewhere)})
        error = incident_store.last_error(recorder.conn, incident.id)
        recorder.enqueue(
            MessageKind.OPENED,
            replace(after, channels=elsewhere),
            error=error,
            first_look=incident.cause in ITEM_CAUSES,
        )
