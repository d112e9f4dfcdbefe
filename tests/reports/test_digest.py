"""The scheduled report: sent once per due time over daemons and restarts, by way of the outbox."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from support.receiver import Receiver

from monitor.database.engine import connect, reading
from monitor.database.report_tables import digests
from monitor.database.tables import notifications
from monitor.notifications.delivery import DeliveryReport
from monitor.reports.digest import DigestDecision, DigestHistory, decide_digest, enqueue_digest

DAY = timedelta(days=1)
DAILY = '[report]\nevery = "1d"\nchannels = ["team"]\n'


class Reports:
    """A target with a run, and a daily report to a webhook."""

    def __init__(self, world, receiver):
        self.world, self.receiver = world, receiver
        self.configure(DAILY)
        world.track(2)
        world.run()
        self.now = world.clock().replace(hour=12)

    def configure(self, report, channel="team"):
        hook = f'[[channels]]\nname = "{channel}"\ntype = "webhook"\nurl = "{self.receiver.url}"\n'
        # incidents go elsewhere
        self.world.configure(
            more=f'{hook}[[routes]]\nmatch = {{ target = "none" }}\nchannels = ["{channel}"]\n{report}'
        )

    @property
    def app(self):
        return replace(self.world.app, clock=lambda: self.now)

    def tick(self, after=timedelta(0)):
        """One check of one daemon; the channels that the report was written for."""
        self.now += after
        return enqueue_digest(self.app.engine, self.app.config, now=self.now)

    def deliver(self):
        return asyncio.run(self.app.sender().deliver())

    def rows(self, table):
        with reading(self.app.engine) as conn:
            return conn.execute(select(table)).all()

    @property
    def sent(self):
        return [(body["kind"], body["title"]) for _, _, body in self.receiver.got if body["kind"] == "report"]


@pytest.fixture
def receiver():
    with Receiver() as made:
        yield made


@pytest.fixture
def reports(small_world, receiver):
    return Reports(small_world, receiver)


def at(days):
    return datetime(2026, 3, 5, tzinfo=UTC) + timedelta(days=days)


DECISIONS = [
    ("first-start", at(0), DigestHistory(any=False, newest=None), DigestDecision.BEGIN),
    ("sent-before", at(0), DigestHistory(any=True, newest=at(0)), DigestDecision.NOT_DUE),
    ("next", at(7), DigestHistory(any=True, newest=at(0)), DigestDecision.SEND),
    ("several-missed", at(70), DigestHistory(any=True, newest=at(0)), DigestDecision.SEND),
    ("a-newer-one-of-another-schedule", at(0), DigestHistory(any=True, newest=at(1)), DigestDecision.NOT_DUE),
    ("only-of-a-clock-that-was-ahead", at(0), DigestHistory(any=True, newest=None), DigestDecision.SEND),
    ("no-such-date", None, DigestHistory(any=True, newest=at(0)), DigestDecision.NOT_DUE),
]


@pytest.mark.parametrize(("due", "history", "decision"), [d[1:] for d in DECISIONS], ids=[d[0] for d in DECISIONS])
def test_what_to_do_at_a_due_time(due, history, decision):
    assert decide_digest(due, history) is decision


def test_a_report_is_sent_at_each_due_time_and_once_however_many_daemons_ask(world, receiver):
    reports = Reports(world, receiver)
    assert reports.tick() == (), "a schedule that is new has missed nothing"
    assert reports.tick(after=timedelta(hours=11)) == ()
    assert reports.tick(after=timedelta(hours=1)) == ("team",)
    assert [reports.tick() for _ in range(3)] == [(), (), ()]
    assert reports.deliver() == DeliveryReport(sent=1)
    assert reports.deliver() == DeliveryReport()
    assert reports.sent == [("report", "Report over the last 1 d: 1 target, no open incidents")]


def test_reports_that_were_missed_while_no_daemon_ran_are_one(reports):
    reports.tick()
    assert reports.tick(after=10 * DAY) == ("team",)
    assert reports.tick() == ()
    reports.deliver()
    assert len(reports.sent) == 1


def test_what_a_daemon_that_died_left_in_the_outbox_is_delivered_under_the_same_key(reports):
    reports.receiver.answers = [(503, {}, b""), (200, {}, b"")]
    reports.tick()
    reports.tick(after=DAY)
    assert (reports.deliver()).deferred == 1
    reports.now += timedelta(minutes=5)
    assert (reports.deliver()).sent == 1
    keys = [headers["idempotency-key"] for _, headers, _ in reports.receiver.got]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_two_reports_that_wait_are_never_merged(reports):
    reports.receiver.answers = [(503, {}, b""), (200, {}, b"")]
    reports.tick()
    reports.tick(after=DAY)
    reports.deliver()
    reports.tick(after=timedelta(hours=23))
    reports.tick(after=timedelta(hours=1) - timedelta(minutes=1))
    reports.deliver()
    assert [row.status for row in reports.rows(notifications)] == ["sent", "sent"]


def test_a_report_that_is_refused_or_late_by_a_day_is_a_dead_letter(reports):
    reports.receiver.answers = [(400, {}, b"")]
    reports.tick()
    reports.tick(after=DAY)
    assert reports.deliver() == DeliveryReport(dead=1, refused=1)
    (row,) = reports.rows(notifications)
    assert (row.incident_id, row.kind, row.status, row.last_error) == (None, "report", "dead", "HTTP 400")


def test_a_report_to_a_channel_that_was_removed_is_a_dead_letter(reports):
    reports.tick()
    reports.tick(after=DAY)
    reports.configure("", channel="other")
    reports.deliver()
    (row,) = reports.rows(notifications)
    assert (row.status, row.last_error) == ("dead", "its channel is no longer configured")
    assert reports.sent == []


def test_the_next_report_has_only_what_changed_since(reports):
    reports.configure(f'{DAILY}since = "7d"\n')
    reports.tick()
    reports.tick(after=DAY)
    reports.tick(after=DAY)
    first, second = (row.message["report"]["data"]["targets"][0]["changes"] for row in reports.rows(notifications))
    assert (first["first_report"], first["runs"]["complete"]) == (True, 1)
    assert (second["first_report"], second["runs"]["complete"]) == (False, 0)


def test_each_environment_has_its_own(reports):
    reports.tick()
    reports.tick(after=DAY)
    other = reports.app.config.model_copy(update={"environment": "staging"})
    assert enqueue_digest(reports.app.engine, other, now=reports.now) == ()
    assert enqueue_digest(reports.app.engine, other, now=reports.now + DAY) == ("team",)
    assert {row.environment for row in reports.rows(digests)} == {"test", "staging"}


def test_without_the_table_nothing_is_stored(reports):
    reports.configure("")
    assert reports.tick(after=30 * DAY) == ()
    assert reports.rows(digests) == []


def test_two_daemons_whose_clocks_are_set_back_and_forward_make_one_report_per_period(reports):
    reports.tick()  # new to this database
    first, app = reports.now, reports.app
    other = connect(app.config.database.reveal())
    days = (1, 2, 0.5, 1, 3, 1.5, 30, 2, 3, 4, 29, 30, 31)  # of the first daemon; the other's clock is hours late
    with ThreadPoolExecutor() as pool:
        for day in days:
            now = first + day * DAY
            asked = [(app.engine, now), (other, now), (other, now - timedelta(hours=9))]
            list(pool.map(lambda each: enqueue_digest(each[0], app.config, now=each[1]), asked))
    other.dispose()
    made = [row.due_at for row in reports.rows(digests)]
    sent = [row.key for row in reports.rows(notifications)]
    assert len(made) == len(set(made))
    assert len(sent) == len(set(sent)) == len([row for row in reports.rows(digests) if row.channels])
    assert len(sent) == len({1, 2, 3, 4, 29, 30, 31})
