"""The incidents of failing channels, which are notified on the other channels.

It runs in the transaction that stores the result of an attempt, and sends nothing itself. A channel has at most one
open incident, so messages about failed messages can't multiply.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.decide import (
    OPENINGS,
    REOPEN_WITHIN,
    Action,
    ChannelEvent,
    Decision,
    DecisionReason,
    decide_channel,
    evolve,
    other_channels,
)
from monitor.incidents.openings import Router
from monitor.incidents.recorder import IncidentRecorder
from monitor.incidents.resend import AlertResender
from monitor.incidents.rulebook import Rule
from monitor.model import Cause, Evidence, Incident
from monitor.notifications import channel_state, outbox
from monitor.notifications.channels import Channel
from monitor.notifications.messages import MessageKind
from monitor.notifications.routing import LOG_CHANNEL, attributes_of
from monitor.notifications.texts import channel_target

_CAUSE = Cause.CHANNEL_FAILING
_REDIRECTED_KINDS = frozenset({MessageKind.OPENED, MessageKind.RESOLVED})
_REFUSED = "refused by"
"""The fact that marks a message as passed on."""
_EVIDENCE = Evidence(cause=_CAUSE, count=1)
"""No run and no stored evidence lead to it; the last error is in the incident's events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelFailures:
    """Opens, updates and resolves the incidents of an environment's channels."""

    environment: str
    rule: Rule
    """The rule for a channel without an own one, for example because it is no longer configured."""
    channels: Sequence[str]
    route: Router
    rules: Mapping[str, Rule] = field(default_factory=dict)
    public_url: str | None = None
    """The page's address, to which alerts that are sent again link."""

    def record_failure(self, conn: Connection, channel: str, *, error: str, now: datetime) -> None:
        """Handles a channel that was suspended or is unreachable for too long; ignores one that is not configured.

        `error` is our own text, without a secret.
        """
        if channel not in self.channels:
            return
        failing = self._failing(conn) | self._unavailable(conn) | {channel}
        before, rule = self._current(conn, channel, now), self.rules.get(channel, self.rule)
        decision = decide_channel(rule, before, ChannelEvent.FAILED, now=now)
        recorder = self._recorder(conn, channel_target(channel), now, failing=failing)
        if before is None or decision.action is Action.OPEN:
            draft = recorder.new_incident(decision, rule, _EVIDENCE)
            decision = recorder.apply_silences(decision, draft)
            after = self._open(recorder, decision, draft)
        else:
            decision = recorder.apply_silences(decision, before)
            after = self._continue(recorder, decision, before)
        if after is not None:
            recorder.record(decision, after, rule=rule if decision.action in OPENINGS else None, error=error)
        self._notify_other_channels(conn, now)

    def record_delivery(self, conn: Connection, channel: str, *, now: datetime) -> None:
        """Resolves a channel's incident after a delivery."""
        self._resolve(conn, self._current(conn, channel, now), ChannelEvent.DELIVERED, now)

    def api_messages(self, conn: Connection, incident_ids: Collection[int]) -> Mapping[int, str]:
        """The API's own text by incident, for channels with `include_api_message`."""
        return incident_store.api_messages(conn, incident_ids=incident_ids)

    async def resend(self, engine: Engine, channels: Mapping[str, Channel], *, utcnow: Callable[[], datetime]) -> None:
        """Resends open alerts (see `AlertResender.resend`)."""
        resender = AlertResender(engine=engine, environment=self.environment, utcnow=utcnow, public_url=self.public_url)
        await resender.resend(channels)

    def resolve_removed(self, conn: Connection, *, now: datetime) -> None:
        """Resolves the incidents of channels that are no longer configured."""
        configured = {channel_target(name) for name in self.channels}
        for incident in incident_store.open_with_cause(conn, cause=_CAUSE, environment=self.environment):
            if incident.target not in configured:
                self._resolve(conn, incident, ChannelEvent.REMOVED, now)

    def redirect_refused(
        self, conn: Connection, ids: Collection[int], channel: str, *, reason: str, now: datetime
    ) -> None:
        """Passes refused openings and resolutions on to another channel, unless a working channel got them too.

        A message that was passed on before goes to the log, so receivers can't pass it on forever. `reason` is our own
        text, without a secret.
        """
        unavailable = self._failing(conn) | self._unavailable(conn) | {channel}
        for message in outbox.messages(conn, ids):
            incident = incident_store.find(conn, message.incident_id)
            passed_on = _REFUSED in dict(message.facts)
            if incident is None or message.kind not in _REDIRECTED_KINDS:
                continue
            if not passed_on and not unavailable.issuperset(incident.channels):
                continue  # another channel got it
            routed = self.route(attributes_of(incident))
            others = (LOG_CHANNEL,) if passed_on else other_channels(routed, self.channels, failing=unavailable)
            redirected = replace(message, recipients=(), facts=(*message.facts, (_REFUSED, f"{channel}: {reason}")))
            outbox.enqueue(conn, redirected, channels=others, now=now)

    def reroute(self, conn: Connection, known: Collection[str], *, now: datetime) -> int:
        """Moves notifications of unknown channels to where their incidents are routed now; returns how many.

        Later messages of the incident go there too. If all those channels were notified anyway, or the incident belongs
        to another environment, the notification stays and waits for its channel. A report becomes a dead letter.
        """
        moved = 0
        for incident_id, channel in outbox.unroutable(conn, known=known):
            if incident_id is None:
                outbox.drop_reports(conn, channel=channel, environment=self.environment, now=now)
                continue
            incident = incident_store.find(conn, incident_id, lock=True)
            if incident is None or incident.environment != self.environment:
                continue
            routed = self.route(attributes_of(incident))
            elsewhere = tuple(name for name in routed if name in known and name not in incident.channels)
            if elsewhere:
                moved += outbox.move(conn, incident_id=incident_id, channel=channel, to=elsewhere)
                channels = tuple(
                    each for name in incident.channels for each in (elsewhere if name == channel else (name,))
                )
                incident_store.save(conn, replace(incident, channels=channels))
        return moved

    def _resolve(self, conn: Connection, incident: Incident | None, channel_event: ChannelEvent, now: datetime) -> None:
        decision = decide_channel(self.rule, incident, channel_event, now=now)
        if incident is not None and decision.action is Action.RESOLVE:
            after = evolve(incident, decision, now=now)
            incident_store.save(conn, after)
            self._recorder(conn, incident.target, now).record(decision, after)

    def _open(self, recorder: IncidentRecorder, decision: Decision, draft: Incident) -> Incident | None:
        """The new incident; None if another process was faster."""
        addressed = recorder.with_channels(draft, decision)
        opened = incident_store.open_if_absent(recorder.conn, addressed)
        return None if opened is None else replace(addressed, id=opened)

    def _continue(self, recorder: IncidentRecorder, decision: Decision, before: Incident) -> Incident:
        after = evolve(before, decision, now=recorder.now, evidence=_EVIDENCE)
        if decision.action is Action.REOPEN:
            after = recorder.with_channels(after, decision)
        incident_store.save(recorder.conn, after)
        return after

    def _notify_other_channels(self, conn: Connection, now: datetime) -> None:
        """Notifies other channels of incidents whose notified channels all fail by now.

        There it is an opening and no reminder, because they never got the opening.
        """
        failing = self._failing(conn)
        reminder = Decision(cause=_CAUSE, action=Action.REMIND, reason=DecisionReason.CHANNELS_FAILING)
        for incident in incident_store.open_with_cause(conn, cause=_CAUSE, environment=self.environment):
            recorder = self._recorder(conn, incident.target, now, failing=failing)
            elsewhere = tuple(name for name in recorder.channels_for(incident) if name not in incident.channels)
            if not (elsewhere and failing.issuperset(incident.channels)):
                continue
            decision = recorder.apply_silences(reminder, incident)
            after, kind = incident, None
            if decision.action is reminder.action:
                after = replace(incident, channels=(*incident.channels, *elsewhere), last_message_at=now)
                incident_store.save(conn, after)
                kind = MessageKind.OPENED
            recorder.record(
                decision,
                replace(after, channels=elsewhere),
                error=incident_store.last_error(conn, incident.id),
                kind=kind,
            )

    def _current(self, conn: Connection, channel: str, now: datetime) -> Incident | None:
        found = incident_store.current(conn, target=channel_target(channel), resolved_since=now - REOPEN_WITHIN)
        return found.get((_CAUSE, ""))

    def _unavailable(self, conn: Connection) -> frozenset[str]:
        """Channels that are suspended or blocked now, with or without an incident."""
        states = channel_state.load_all(conn).values()
        return frozenset(
            each.name for each in states if each.suspended_at is not None or each.blocked_until is not None
        )

    def _failing(self, conn: Connection) -> frozenset[str]:
        targets = {
            each.target for each in incident_store.open_with_cause(conn, cause=_CAUSE, environment=self.environment)
        }
        return frozenset(name for name in self.channels if channel_target(name) in targets)

    def _recorder(
        self, conn: Connection, target: str, now: datetime, *, failing: frozenset[str] = frozenset()
    ) -> IncidentRecorder:
        return IncidentRecorder(
            conn=conn,
            target=target,
            environment=self.environment,
            route=self._excluding(failing),
            now=now,
            silences=silence_store.active(conn, now=now),
        )

    def router(self, conn: Connection) -> Router:
        """The router of `channel_failing` incidents, which leaves out failing channels."""
        return self._excluding(self._failing(conn))

    def _excluding(self, failing: frozenset[str]) -> Router:
        return lambda attributes: other_channels(self.route(attributes), self.channels, failing=failing)
