"""Notifications and the channels that keep them back, as text and as JSON values."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from monitor.model import ChannelState
from monitor.notifications.messages import format_age
from monitor.reports.formatting import align, iso, moment
from monitor.reports.notification_queries import Letter

_HEADING = ("ID", "CREATED (UTC)", "CHANNEL", "KIND", "INCIDENT", "TARGET", "CAUSE", "TRIES", "WHAT BECAME OF IT")


def letters_text(letters: Sequence[Letter], states: Mapping[str, ChannelState], *, now: datetime) -> str:
    """A line per notification, newest first."""
    return align(_HEADING, [_row(letter, states.get(letter.channel), now) for letter in letters])


def _row(letter: Letter, state: ChannelState | None, now: datetime) -> tuple[object, ...]:
    told = letter.message
    return (
        letter.id,
        moment(letter.created_at),
        letter.channel,
        told.kind.value,
        told.incident_id,
        told.target,
        told.cause.value,
        letter.attempts,
        _fate(letter, state, now),
    )


def _fate(letter: Letter, state: ChannelState | None, now: datetime) -> str:
    if letter.status == "sent":
        return f"sent {moment(letter.sent_at)}"
    if letter.status == "superseded":
        return f"told of by notification {letter.superseded_by}"
    if letter.status == "dead":
        return f"given up {moment(letter.died_at)}: {letter.last_error or 'its channel was parked'}"
    if letter.claimed_by:
        return f"being sent by {letter.claimed_by}"
    if state is not None and state.parked_at is not None:
        return "waits: its channel is parked"
    last = f", last: {letter.last_error}" if letter.last_error else ""
    due = max([letter.next_attempt_at, *([state.blocked_until] if state and state.blocked_until else [])])
    return (f"due in {format_age(due - now)}" if due > now else "due now") + last


def channel_lines(states: Iterable[ChannelState], *, now: datetime) -> list[str]:
    """A line per channel that fails: since when, why, and what to do or when it is tried again."""
    return [_ailing(state, now) for state in states if state.parked_at is not None or state.failures]


def _ailing(state: ChannelState, now: datetime) -> str:
    if state.parked_at is not None:
        return (
            f"channel {state.name} is parked since {moment(state.parked_at)} UTC ({state.last_error}): mend its "
            "settings, or the receiver and then `ingestion-monitor notifications retry`"
        )
    due = state.blocked_until
    again = f"tried again in {format_age(due - now)}" if due is not None and due > now else "tried again at once"
    since = f" since {moment(state.failing_since)} UTC" if state.failing_since else ""
    return f"channel {state.name} fails{since} ({state.last_error}): {again}"


def letter_json(letter: Letter) -> dict[str, Any]:
    """One notification as JSON values, with its message."""
    return {
        "id": letter.id,
        "key": letter.key,
        "channel": letter.channel,
        "status": letter.status,
        "kind": letter.message.kind.value,
        "incident_id": letter.message.incident_id,
        "created_at": iso(letter.created_at),
        "next_attempt_at": iso(letter.next_attempt_at) if letter.status == "due" else None,
        "attempts": letter.attempts,
        "sent_at": iso(letter.sent_at),
        "died_at": iso(letter.died_at),
        "superseded_by": letter.superseded_by,
        "last_error": letter.last_error,
        "message": {**msgspec.to_builtins(letter.message), "facts": dict(letter.message.facts)},
    }
