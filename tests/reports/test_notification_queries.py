from datetime import timedelta

import pytest
from sqlalchemy import update
from support.samples import NOW, incident, message

from monitor.database.engine import reading, writing
from monitor.database.tables import notifications
from monitor.incidents import store as incidents
from monitor.model import ChannelState
from monitor.notifications import channel_state as channels
from monitor.notifications import outbox
from monitor.reports.notification_queries import Undelivered, undelivered

DAY = timedelta(days=1)


@pytest.fixture
def post(engine):
    """Stores a message to a channel with these fields."""

    def post(channel, target="gloo-prod", at=NOW, **fields):
        with writing(engine) as conn:
            number = incidents.open_incident(conn, incident(target=target), evidence_id=None)
            outbox.enqueue(conn, message(number), channels=(channel,), now=at)
            mine = notifications.c.incident_id == number
            conn.execute(update(notifications).where(mine).values(**fields))

    return post


def found(engine, target=None):
    with reading(engine) as conn:
        return undelivered(conn, since=NOW - DAY, target=target)


def test_dead_letters_and_pending_notifications_are_counted_by_channel(engine, post):
    post("mail", "a", status="dead")
    post("mail", "b", attempts=1, next_attempt_at=NOW + DAY)
    post("chat", "c", status="dead")
    post("chat", "d", status="dead")
    assert found(engine) == [
        Undelivered(channel="chat", dead=2, waiting=0),
        Undelivered(channel="mail", dead=1, waiting=1),
    ]
    assert found(engine, target="b") == [Undelivered(channel="mail", dead=0, waiting=1)]


def test_sent_first_due_and_old_dead_notifications_are_not_listed(engine, post):
    post("mail", "a", status="sent", next_attempt_at=NOW + DAY)
    post("mail", "b", status="due")
    post("mail", "c", status="dead", at=NOW - 2 * DAY)
    assert found(engine) == []


def test_untried_notifications_of_a_suspended_channel_are_pending(engine, post):
    post("mail", "a", status="due")
    post("chat", "b", status="due")
    with writing(engine) as conn:
        channels.save(conn, ChannelState(name="mail", suspended_at=NOW, failures=1))
    assert found(engine) == [Undelivered(channel="mail", dead=0, waiting=1)]
