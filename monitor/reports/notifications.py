"""Notifications as text and JSON values, and the channels that fail, as text."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection

from monitor.model import ChannelState
from monitor.notifications import channel_state
from monitor.notifications.messages import MessageKind, format_age
from monitor.reports import notification_queries
from monitor.reports.formatting import count_limit, counted_list, fit, format_time, iso, json_values, with_rest
from monitor.reports.notification_queries import NotificationRow


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationsView:
    """The newest notifications, and the states of the channels."""

    notifications: Sequence[NotificationRow]
    """Newest first."""
    total: int
    """How many there are, counted up to `count_limit`."""
    channel_states: Mapping[str, ChannelState]
    now: datetime


def notifications_view(
    conn: Connection, *, statuses: Collection[str] | None, channel: str | None = None, limit: int, now: datetime
) -> NotificationsView:
    """The newest notifications, at most `limit` (> 0): with these statuses, and to one channel; None: any."""
    return NotificationsView(
        notifications=notification_queries.listing(conn, statuses=statuses, channel=channel, limit=limit),
        total=notification_queries.count_notifications(
            conn, statuses=statuses, channel=channel, at_most=count_limit(limit)
        ),
        channel_states=channel_state.load_all(conn),
        now=now,
    )


def notifications_json(view: NotificationsView) -> dict[str, Any]:
    """The list as JSON values, and how many there are, or at least are."""
    return counted_list("notifications", [notification_json(each) for each in view.notifications], total=view.total)


def notifications_text(view: NotificationsView, *, width: int | None = None) -> str:
    """A line per notification, in the given order, and how many more there are."""
    notifications, states, now = view.notifications, view.channel_states, view.now
    messages = [each.message for each in notifications]
    columns: dict[str, list[object]] = {
        "ID": [each.id for each in notifications],
        "CREATED (UTC)": [format_time(each.created_at) for each in notifications],
        "CHANNEL": [each.channel for each in notifications],
        "KIND": [each.kind.value for each in messages],
        # a report has none of these
        "INCIDENT": [each.incident_id or None for each in messages],
        "TARGET": [each.target or None for each in messages],
        "CAUSE": [None if each.kind is MessageKind.REPORT else each.cause.value for each in messages],
        "ATTEMPTS": [each.attempts for each in notifications],
        "STATUS": [_delivery_status(each, states.get(each.channel), now) for each in notifications],
    }
    table = fit(columns, width=width, shorten={"STATUS": 24}, optional=("ATTEMPTS", "CREATED (UTC)", "CAUSE"))
    return with_rest(table, shown=len(notifications), total=view.total)


def _delivery_status(notification: NotificationRow, state: ChannelState | None, now: datetime) -> str:
    if notification.status == "sent":
        partly = f", but {notification.last_error}" if notification.last_error else ""
        return f"sent {format_time(notification.sent_at)}{partly}"
    if notification.status == "superseded":
        return f"superseded by notification {notification.superseded_by}"
    if notification.status == "dead":
        return f"given up {format_time(notification.died_at)}: {notification.last_error or 'its channel was suspended'}"
    if notification.claimed_by:
        return f"being sent by {notification.claimed_by}"
    if state is not None and state.suspended_at is not None:
        return "waiting: its channel is suspended"
    last = f", last: {notification.last_error}" if notification.last_error else ""
    due = max([notification.next_attempt_at, *([state.blocked_until] if state and state.blocked_until else [])])
    return (f"due in {format_age(due - now)}" if due > now else "due now") + last


def channel_lines(states: Iterable[ChannelState], *, now: datetime) -> list[str]:
    """A line per failing channel: since when, why, and what to do or when the next attempt is."""
    return [_failing_channel_line(state, now) for state in states if state.suspended_at is not None or state.failures]


def _failing_channel_line(state: ChannelState, now: datetime) -> str:
    if state.suspended_at is not None:
        suspended = f"is suspended since {format_time(state.suspended_at)} UTC ({state.last_error})"
        retry = "then run `ingestion-monitor notifications retry`"
        return f"channel {state.name} {suspended}: fix its settings; or fix the receiver, {retry}"
    due = state.blocked_until
    again = f"next attempt in {format_age(due - now)}" if due is not None and due > now else "next attempt now"
    since = f" since {format_time(state.failing_since)} UTC" if state.failing_since else ""
    return f"channel {state.name} is failing{since} ({state.last_error}): {again}"


def notification_json(notification: NotificationRow) -> dict[str, Any]:
    """One notification as JSON values, with its message as webhooks get it."""
    message = notification.message
    return {
        **json_values(notification),
        "kind": message.kind.value,
        "incident_id": message.incident_id,
        "next_attempt_at": iso(notification.next_attempt_at) if notification.status == "due" else None,
        # not the whole of a report, which is as long as many messages
        "message": {**msgspec.to_builtins(replace(message, report=None)), "facts": dict(message.facts)},
    }
