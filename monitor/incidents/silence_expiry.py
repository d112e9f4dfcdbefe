"""The end of a silence: what it kept back and is open still is told now.

It is called in the transaction that claims messages, and sends nothing itself. Of several processes that look at once
one tells an incident.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from monitor.incidents import silence_store as silences
from monitor.incidents import store as incident_store
from monitor.incidents.recorder import Casebook, Router
from monitor.incidents.silences import ended, silence_over
from monitor.model import Cause, Incident
from monitor.notifications.messages import MessageKind

_OPENINGS = ("opened", "reopened")


@dataclass(frozen=True, slots=True, kw_only=True)
class Silencing:
    """Tells what silences kept back, for the incidents of an environment."""

    environment: str
    route: Router
    past_failing: Callable[[Connection], Router]
    """Names the channels for the incident of a channel, which is not told on those that fail."""

    def release(self, conn: Connection, *, now: datetime) -> int:
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
        past_failing = self.past_failing(conn)
        waiting = incident_store.untold(conn, environment=self.environment)
        holding = silences.in_force(conn, now=now) if waiting else ()
        told = 0
        for incident in waiting:
            silence = silence_over(incident, holding, now=now)
            book = Casebook(
                conn=conn,
                target=incident.target,
                environment=self.environment,
                route=past_failing if incident.cause is Cause.CHANNEL_FAILING else self.route,
                now=now,
                silences=holding,
            )
            if silence is None:
                self._tell(book, incident)
                told += 1
            elif silence.id != incident.silence_id:
                incident_store.save(conn, replace(incident, silence_id=silence.id))
                book.keep_back(incident, silence.id)
        return told

    def _tell(self, book: Casebook, incident: Incident) -> None:
        opening = incident_store.last_step(book.conn, incident.id, kinds=_OPENINGS)
        told = replace(
            incident, silence_id=None, channels=book.channels_for(incident), last_message_at=book.now, untold_count=0
        )
        incident_store.save(book.conn, told)
        why = self._why(book, incident)
        book.note(told.id, "told", why, {"channels": list(told.channels), "silence_id": incident.silence_id})
        error = opening.data.get("error") if opening else None
        book.send(
            MessageKind.OPENED,
            told,
            again=opening is not None and opening.kind == "reopened",
            error=error if isinstance(error, str) else None,
            notes=(("kept back", f"since {opening.at if opening else told.opened_at:%Y-%m-%d %H:%M} UTC; {why}"),),
        )

    def _why(self, book: Casebook, incident: Incident) -> str:
        kept_by = silences.find(book.conn, incident.silence_id or 0)
        return ended(kept_by, now=book.now) if kept_by else f"silence {incident.silence_id} ended"
