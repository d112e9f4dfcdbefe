import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from support.fakes import FakeAlerts, FakeChannel
from support.samples import NOW, incident
from support.world import Clock

from monitor.database.engine import writing
from monitor.incidents import store as incidents
from monitor.incidents.resend import AlertResender
from monitor.model import ChannelState, IncidentState
from monitor.notifications import channel_state as channels
from monitor.notifications.channels import SendOutcome, SendResult

MINUTE = timedelta(minutes=1)


class Alerts:
    """A channel `alerts` that needs resends, and incidents that were sent to it or not."""

    def __init__(self, engine):
        self.engine, self.clock, self.channel = engine, Clock(), FakeAlerts()
        self.clock.now = NOW

    def open(self, target, **fields):
        with writing(self.engine) as conn:
            opened = incident(target=target, **{"channels": ("alerts",), **fields})
            return incidents.open_incident(conn, opened, evidence_id=None)

    def resend(self, *, after=timedelta(0)):
        self.clock.now += after
        resender = AlertResender(engine=self.engine, environment="test", utcnow=self.clock)
        asyncio.run(resender.resend({"alerts": self.channel, "other": FakeChannel()}))
        return self.channel.resent


@pytest.fixture
def alerts(engine):
    return Alerts(engine)


def test_open_alerts_are_resent_each_minute_to_channels_that_got_them(alerts):
    alert = alerts.open("a")
    alerts.open("elsewhere", channels=("oncall",))
    alerts.open("over", state=IncidentState.RESOLVED)
    alerts.open("staging", environment="staging")
    assert alerts.resend() == [(NOW, [alert])]
    assert len(alerts.resend(after=MINUTE - timedelta(seconds=1))) == 1, "not before its time"
    assert alerts.resend(after=timedelta(seconds=1))[-1] == (NOW + MINUTE, [alert])


def test_without_open_alerts_nothing_is_sent(alerts):
    assert alerts.resend() == []


STATES = [
    ("suspended", {"suspended_at": NOW}, 0),
    ("waiting", {"blocked_until": NOW + MINUTE}, 0),
    ("waited", {"blocked_until": NOW - MINUTE}, 1),
]


@pytest.mark.parametrize(("fields", "times"), [s[1:] for s in STATES], ids=[s[0] for s in STATES])
def test_nothing_is_resent_to_a_failing_channel(alerts, fields, times):
    alerts.open("a")
    with writing(alerts.engine) as conn:
        channels.save(conn, ChannelState(name="alerts", **fields))
    assert len(alerts.resend()) == times


def test_a_failed_resend_is_logged_and_repeated_after_a_minute(alerts):
    alerts.open("a")
    alerts.channel.results = [SendResult(outcome=SendOutcome.RETRY, reason="HTTP 503")]
    with capture_logs() as logs:
        alerts.resend()
    assert logs == [{"event": "alerts_not_resent", "channel": "alerts", "reason": "HTTP 503", "log_level": "warning"}]
    assert len(alerts.resend(after=MINUTE)) == 2


def test_of_two_processes_one_resends(alerts):
    alerts.open("a")
    with writing(alerts.engine) as conn:
        assert channels.claim_resend(conn, "alerts", now=NOW, before=NOW - MINUTE)
        assert not channels.claim_resend(conn, "alerts", now=NOW, before=NOW - MINUTE)
    assert alerts.resend() == []


def test_the_resend_is_claimed_before_open_alerts_are_read(alerts, monkeypatch):
    """Otherwise a process could resend an alert after another one has sent its resolution."""
    alerts.open("a")
    asked = []
    for module, name in ((channels, "claim_resend"), (incidents, "list_incidents")):
        true = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _n=name, _t=true, **k: (asked.append(_n), _t(*a, **k))[1])
    alerts.resend()
    assert asked == ["claim_resend", "list_incidents"]
