"""The scheduled report in the daemon: written when it is due, delivered at once, and dropped by a reload."""

import asyncio
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert
from structlog.testing import capture_logs
from support.observed import until
from support.samples import NOW

from monitor.daemon.periodic import enqueue_report
from monitor.database.engine import writing
from monitor.database.report_tables import digests

HOURLY = '[schedule]\nevery = "1h"\n[report]\nevery = "1h"\nchannels = ["log"]\n'


def sent_before(world, at):
    """A report that was due then."""
    with writing(world.app.engine) as conn:
        row = {"environment": "test", "due_at": at, "run_key": "every 1h", "created_at": at, "channels": ["log"]}
        conn.execute(insert(digests).values(row))


def test_a_report_that_is_due_is_written_once_and_logged(small_world):
    small_world.configure(more=HOURLY)
    sent_before(small_world, NOW - timedelta(hours=3))
    app = replace(small_world.app, clock=lambda: NOW)
    with capture_logs() as logged:
        written = [asyncio.run(enqueue_report(app)) for _ in range(2)]
    assert written == [True, False]
    assert [(each["event"], each["channels"]) for each in logged] == [("report_enqueued", ["log"])]


@pytest.mark.process
def test_a_daemon_sends_what_was_due_while_it_was_down_and_a_reload_ends_it(small_world, start):
    small_world.configure(more=HOURLY)
    small_world.track(1)
    sent_before(small_world, datetime.now(UTC) - timedelta(hours=5))
    daemon = start(small_world)
    daemon.await_events("report")
    small_world.configure(more='[schedule]\nevery = "1h"\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.await_events("configuration_reloaded")
    daemon.end()
    (event,) = daemon.logged("report")
    assert event["title"].startswith("Report over the last 1 h: 1 target, ")
    until(lambda: small_world.rows("SELECT status FROM notifications") == [{"status": "sent"}], "its delivery")
