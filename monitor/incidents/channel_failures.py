"""Whether people can be reached: the incidents of channels that fail, told on the others.

It is called in the transaction that marks what became of a message, and sends nothing itself. A message about a channel
is a message like any other; as a channel has one open incident at the most, there is no end of messages about messages.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Engine

from monitor.incidents import silence_store as silences
from monitor.incidents import store as incident_store
from monitor.incidents.channel_rules import Sign, bystanders, decide_about_channel
from monitor.incidents.decide import Action, Decision, Why, evolve
from monitor.incidents.recorder import Casebook, Router
from monitor.incidents.resend import Refresher
from monitor.incidents.rulebook import Rule
from monitor.model import Cause, Evidence, Incident
from monitor.notifications import channel_state as channel_store
from monitor.notifications import outbox
from monitor.notifications.channels import Channel
from monitor.notifications.messages import MessageKind
from monitor.notifications.routing import LOG_CHANNEL, attributes_of
from monitor.notifications.texts import channel_target

_CAUSE = Cause.CHANNEL_FAILING
_NEWS = frozenset({MessageKind.OPENED, MessageKind.RESOLVED})
_REFUSED = "refused by"
"""The label of the fact that a message was meant for somebody else."""
_SEEN = Evidence(cause=_CAUSE, count=1)
"""No run is behind it, and so no row of evidence: the last error is in the incident's events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachability:
    """Keeps the incidents of an environment's channels."""

    environment: str
    rule: Rule
    """Of `channel_failing`, for a channel without one of its own: it may not be configured any more."""
    channels: Sequence[str]
    """Names of all configured channels."""
    route: Router
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """The same by channel, as configured."""

    def failed(self, conn: Connection, channel: str, *, error: str, now: datetime) -> None:
        """Takes notice that a channel is parked or let a message die; a channel that nobody configured can't fail.

        Args:
            conn: the transaction that marks it.
            channel: its name.
            error: in our own words, without a secret.
            now: when (aware).
        """
        if channel not in self.channels:
            return
        failing = self._failing(conn) | self._out_of_reach(conn) | {channel}
        before, rule = self._current(conn, channel), self.rules.get(channel, self.rule)
        decision = decide_about_channel(rule, before, Sign.FAILED, now=now)
        book = self._book(conn, channel_target(channel), now, failing=failing)
        if before is None or decision.action is Action.OPEN:
            draft = book.draft(decision, rule, _SEEN)
            decision = book.hush(decision, draft)
            after = self._opened(book, decision, draft)
        else:
            decision = book.hush(decision, before)
            after = self._went_on(book, decision, before)
        if after is not None:
            opening = decision.action in {Action.OPEN, Action.REOPEN}
            book.tell(decision, after, rule=rule if opening else None, error=error)
        self._tell_elsewhere(conn, now)

    def delivered(self, conn: Connection, channel: str, *, now: datetime) -> None:
        """Takes notice that a message got through: whatever ailed the channel is over."""
        self._end(conn, self._current(conn, channel), Sign.DELIVERED, now)

    def api_messages(self, conn: Connection, incident_ids: Collection[int]) -> Mapping[int, str]:
        """What the API said, by incident: for channels whose owner asked for it."""
        return incident_store.api_messages(conn, incident_ids=incident_ids)

    async def refresh(self, engine: Engine, channels: Mapping[str, Channel], *, utcnow: Callable[[], datetime]) -> None:
        """Sends what is open again to the channels whose receivers forget it otherwise (see `resend`).

        Raises:
            StoreError: when our database can't be used.
        """
        await Refresher(engine=engine, environment=self.environment, utcnow=utcnow).refresh(channels)

    def forget_the_gone(self, conn: Connection, *, now: datetime) -> None:
        """Ends the incidents of channels that are not configured any more: nothing can be delivered there again."""
        configured = {channel_target(name) for name in self.channels}
        for incident in incident_store.open_about(conn, cause=_CAUSE, environment=self.environment):
            if incident.target not in configured:
                self._end(conn, incident, Sign.GONE, now)

    def refused(self, conn: Connection, ids: Collection[int], channel: str, *, reason: str, now: datetime) -> None:
        """Tells somebody else what a channel refused, where nobody else hears of it: openings and ends alone.

        What was passed on once already goes to the log: receivers must not pass it to each other for ever.

        Args:
            conn: the transaction that gives it up.
            ids: of the notifications.
            channel: whose receiver refused them.
            reason: in our own words, without a secret.
            now: when (aware).
        """
        closed = self._failing(conn) | self._out_of_reach(conn) | {channel}
        for message in outbox.messages(conn, ids):
            incident = incident_store.find(conn, message.incident_id)
            passed_on = _REFUSED in dict(message.facts)
            if incident is None or message.kind not in _NEWS:
                continue
            if not passed_on and not closed.issuperset(incident.channels):
                continue  # it was told on others
            routed = self.route(attributes_of(incident))
            others = (LOG_CHANNEL,) if passed_on else bystanders(routed, self.channels, failing=closed)
            told = replace(message, facts=(*message.facts, (_REFUSED, f"{channel}: {reason}")))
            outbox.put(conn, told, channels=others, now=now)

    def move_on(self, conn: Connection, known: Collection[str]) -> int:
        """Moves what waits for channels that are not configured to where its incident is routed now.

        From then on the incident is told there. Where all of those were told of it anyway, or it belongs to another
        environment, it stays as it is, and waits for its channel.

        Args:
            conn: a writing transaction.
            known: names of the channels that there are.

        Returns:
            How many notifications were moved.
        """
        moved = 0
        for incident_id, channel in outbox.stranded(conn, known=known):
            incident = incident_store.find(conn, incident_id, lock=True)
            if incident is None or incident.environment != self.environment:
                continue
            routed = self.route(attributes_of(incident))
            elsewhere = tuple(name for name in routed if name in known and name not in incident.channels)
            if elsewhere:
                moved += outbox.move(conn, incident_id=incident_id, channel=channel, to=elsewhere)
                told = tuple(each for name in incident.channels for each in (elsewhere if name == channel else (name,)))
                incident_store.save(conn, replace(incident, channels=told))
        return moved

    def _end(self, conn: Connection, incident: Incident | None, sign: Sign, now: datetime) -> None:
        decision = decide_about_channel(self.rule, incident, sign, now=now)
        if incident is not None and decision.action is Action.RESOLVE:
            after = evolve(incident, decision, now=now)
            incident_store.save(conn, after)
            self._book(conn, incident.target, now).tell(decision, after)

    def _opened(self, book: Casebook, decision: Decision, draft: Incident) -> Incident | None:
        """The new incident; None when another sender was faster."""
        addressed = book.addressed(draft, decision)
        opened = incident_store.open_once(book.conn, addressed)
        return None if opened is None else replace(addressed, id=opened)

    def _went_on(self, book: Casebook, decision: Decision, before: Incident) -> Incident:
        after = evolve(before, decision, now=book.now, evidence=_SEEN)
        if decision.action is Action.REOPEN:
            after = book.addressed(after, decision)
        incident_store.save(book.conn, after)
        return after

    def _tell_elsewhere(self, conn: Connection, now: datetime) -> None:
        """Opens elsewhere what was told only on channels that fail themselves by now.

        There it is an opening, not a reminder: nobody can be reminded, nor told the end, of what they never heard of.
        """
        failing = self._failing(conn)
        again = Decision(cause=_CAUSE, action=Action.REMIND, why=Why.TOLD_IN_VAIN)
        for incident in incident_store.open_about(conn, cause=_CAUSE, environment=self.environment):
            book = self._book(conn, incident.target, now, failing=failing)
            elsewhere = tuple(name for name in book.channels_for(incident) if name not in incident.channels)
            if not (elsewhere and failing.issuperset(incident.channels)):
                continue
            decision = book.hush(again, incident)
            after, kind = incident, None
            if decision.action is again.action:
                after = replace(incident, channels=(*incident.channels, *elsewhere), last_message_at=now)
                incident_store.save(conn, after)
                kind = MessageKind.OPENED
            book.tell(decision, replace(after, channels=elsewhere), error=_last_error(conn, incident.id), kind=kind)

    def _current(self, conn: Connection, channel: str) -> Incident | None:
        return incident_store.current(conn, target=channel_target(channel)).get((_CAUSE, ""))

    def _out_of_reach(self, conn: Connection) -> frozenset[str]:
        """Channels that nothing can be told on at the moment, whether or not there is an incident about them yet."""
        states = channel_store.states(conn).values()
        return frozenset(each.name for each in states if each.parked_at is not None or each.blocked_until is not None)

    def _failing(self, conn: Connection) -> frozenset[str]:
        targets = {each.target for each in incident_store.open_about(conn, cause=_CAUSE, environment=self.environment)}
        return frozenset(name for name in self.channels if channel_target(name) in targets)

    def _book(self, conn: Connection, target: str, now: datetime, *, failing: frozenset[str] = frozenset()) -> Casebook:
        return Casebook(
            conn=conn,
            target=target,
            environment=self.environment,
            route=self._past(failing),
            now=now,
            silences=silences.in_force(conn, now=now),
        )

    def router(self, conn: Connection) -> Router:
        """Names the channels for the incident of a channel: those that do not fail."""
        return self._past(self._failing(conn))

    def _past(self, failing: frozenset[str]) -> Router:
        return lambda attributes: bystanders(self.route(attributes), self.channels, failing=failing)


def _last_error(conn: Connection, incident_id: int) -> str | None:
    told = (step.data.get("error") for step in reversed(incident_store.events(conn, incident_id)))
    return next((error for error in told if isinstance(error, str)), None)
