"""Delivery under faults: killed processes, failing receivers, two concurrent senders, and a clock that jumps.

Senders that are killed or race are separate processes; receivers are on loopback. To let time pass, a test changes
times in the database or moves a clock.
"""

import asyncio
import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

import pytest
from sqlalchemy import select, update
from support.fakes import FakeChannel, configured_channels
from support.observed import until
from support.receiver import Receiver
from support.samples import NOW, incident, message
from support.thinned import smoke_first
from support.world import Clock

from monitor.app import App, send_once
from monitor.database.engine import reading, writing
from monitor.database.tables import channels, notifications
from monitor.incidents import store as incident_store
from monitor.incidents.channel_failures import ChannelFailures
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.model import Cause
from monitor.notifications import outbox
from monitor.notifications.channels.webhook import WebhookChannel
from monitor.notifications.delivery import CLAIM_LEASE, DeliveryReport, Sender
from monitor.notifications.routing import LOG_CHANNEL
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run

pytestmark = pytest.mark.process

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
NOTHING = "Nothing is due.\n"
DEADLINE_S = 120

DOCS = """
[[targets]]
name = "docs"
provider = "gloo"
base_url = "{base_url}"
publisher_id = "{publisher}"
auth = {auth}
check = {{ strategy = "items" }}
sync_log = {{ url = "{sync_log}", table = "docs_log" }}
"""


class HoldingReceiver(Receiver):
    """A receiver that can delay its answers and notices disconnected clients."""

    def __init__(self, *answers):
        self.may_answer, self.gone = threading.Event(), threading.Event()
        self.may_answer.set()
        super().__init__(*answers)

    def start(self):
        super().start()
        end = self._server.shutdown_request

        def ended(request):
            end(request)
            self.gone.set()

        self._server.shutdown_request = ended

    def stop(self):
        self.may_answer.set()
        super().stop()

    def next_answer(self):
        self.may_answer.wait()
        return super().next_answer()

    @property
    def calls(self):
        """Each call's key, and its body to the byte."""
        return [(headers["idempotency-key"], body) for (_, headers, _), body in zip(self.got, self.raw, strict=True)]

    @property
    def bodies(self):
        return [body for _, _, body in self.got]


@pytest.fixture
def receiver():
    with HoldingReceiver() as made:
        yield made


@pytest.fixture
def deployment(world, here):
    world.log("CREATE TABLE docs_log (item_id TEXT)")
    return Deployment(world, partial(here, world))


class Deployment:
    """Two targets whose documents fail on demand.

    `check` and `notify` call the command in this process; commands that are killed or race are separate processes.
    """

    def __init__(self, world, call):
        self.world, self._call = world, call

    def configure(self, **urls):
        """Configures channels with these names for the next process."""
        world = self.world
        docs = DOCS.format(
            base_url=world.sandbox.url, publisher=world.sandbox.settings.publisher_id, auth=world.client_auth,
            sync_log=world.sync_log,
        )  # fmt: skip
        tables = [f'[[channels]]\nname = "{name}"\ntype = "webhook"\nurl = "{url}"\n' for name, url in urls.items()]
        world.configure(more="\n".join([docs, *tables]))

    def fail(self, target):
        """Lets a document of the target fail: the next check opens an incident with a message."""
        (item_id,) = self.world.sandbox.create_items(1, status="FAILED")
        if target == "gloo":
            self.world.record(item_id)
        else:
            self.world.log("INSERT INTO docs_log VALUES (:i)", [{"i": item_id}])

    def check(self, target):
        """Runs `check`; returns the exit code and the line about messages."""
        done = self._call("check", "--target", target)
        return done.returncode, done.stdout.rpartition("\n\n")[2] if "Messages: " in done.stdout else ""

    def notify(self):
        """Runs `notify`; returns its output."""
        return self._call("notify").stdout

    def dead_letters(self):
        return json.loads(self._call("notifications", "dead", "--json").stdout)["notifications"]

    def close_a_run(self):
        """A run without a delivery after it."""
        self.world.clock.now = datetime.now(UTC)
        self.world.run()

    def die_before_the_mark(self, receiver, *command):
        """Kills the command between the receiver's answer and the mark, which a lock of this test delays."""
        receiver.may_answer.clear()
        receiver.gone.clear()
        process = self.world.start(*command)
        try:
            until(lambda: receiver.got, "a message at the receiver", timeout_s=DEADLINE_S)
            with writing(self.world.app.engine) as conn:  # on SQLite it is the only one that can write
                conn.execute(select(notifications.c.id).with_for_update()).all()
                receiver.may_answer.set()
                assert receiver.gone.wait(DEADLINE_S), "the command hangs up once it has its answer"
                process.kill()
                process.wait()
        finally:
            process.kill()
            process.communicate()
        return process.pid

    def expire_claims(self):
        """As if two minutes had passed."""
        past = {"claimed_until": datetime.now(UTC) - MINUTE}
        with writing(self.world.app.engine) as conn:
            assert conn.execute(
                update(notifications).where(notifications.c.claimed_by.is_not(None)).values(past)
            ).rowcount

    def let_time_pass(self):
        """As if the backoff after a failed attempt had passed."""
        past = datetime.now(UTC) - MINUTE
        with writing(self.world.app.engine) as conn:
            conn.execute(update(channels).where(channels.c.blocked_until.is_not(None)).values(blocked_until=past))
            due = notifications.c.status == "due"
            assert conn.execute(update(notifications).where(due).values(next_attempt_at=past)).rowcount

    def rows(self):
        with reading(self.world.app.engine) as conn:
            return conn.execute(select(notifications).order_by(notifications.c.id)).all()

    def state(self, name):
        with reading(self.world.app.engine) as conn:
            return conn.execute(select(channels).where(channels.c.name == name)).one()


# --- processes that are killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", smoke_first([(("check", "--target", "gloo"),), (("notify",),)]), ids=["check", "notify"]
)
def test_a_sender_killed_before_the_mark_sends_the_same_message_again(deployment, receiver, command):
    deployment.configure(oncall=receiver.url)
    deployment.fail("gloo")
    if command == ("notify",):
        deployment.close_a_run()
    pid = deployment.die_before_the_mark(receiver, *command)
    (row,) = deployment.rows()
    assert (row.status, row.attempts, row.claimed_by.rpartition(":")[2]) == ("due", 0, str(pid))
    assert deployment.notify() == NOTHING, "the claim of the dead lasts"
    deployment.expire_claims()
    assert deployment.world.cli("notify").stdout == "Messages: 1 sent\n"
    first, repeated = receiver.calls
    assert repeated == first
    assert deployment.notify() == NOTHING
    assert len(receiver.calls) == 2
    assert [row.status for row in deployment.rows()] == ["sent"]


@pytest.mark.parametrize("meanwhile", ["its claim lasts", "its claim is over"])
def test_a_later_incident_is_not_merged_into_a_message_that_may_have_arrived(deployment, receiver, meanwhile):
    deployment.configure(oncall=receiver.url)
    deployment.fail("gloo")
    deployment.die_before_the_mark(receiver, "check", "--target", "gloo")
    deployment.fail("docs")
    if meanwhile == "its claim is over":
        deployment.expire_claims()
        assert deployment.check("docs") == (0, "Messages: 2 sent\n")
    else:
        assert deployment.check("docs") == (0, "Messages: 1 sent\n")
        deployment.expire_claims()
        assert deployment.notify() == "Messages: 1 sent\n"
    assert deployment.notify() == NOTHING
    first, *later = receiver.calls
    assert len(later) == 2
    assert later.count(first) == 1
    (other,) = [body for key, _, body in _by_key(receiver) if key != first[0]]
    assert (other["target"], other["parts"]) == ("docs", [])


def test_a_sender_killed_before_the_answer_sends_the_same_message_again(deployment, receiver):
    deployment.configure(oncall=receiver.url)
    deployment.fail("gloo")
    receiver.hang = True
    process = deployment.world.start("check", "--target", "gloo")
    try:
        until(lambda: receiver.got, "a message at the receiver", timeout_s=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    receiver.hang = False
    deployment.expire_claims()
    assert deployment.notify() == "Messages: 1 sent\n"
    first, again = receiver.calls
    assert again == first
    assert deployment.notify() == NOTHING


@pytest.mark.smoke
def test_two_concurrent_senders_deliver_every_message_once(deployment, receiver):
    deployment.configure(oncall=receiver.url)
    written = write_many(deployment.world.app.engine, per_kind=2)
    receiver.may_answer.clear()
    senders = [deployment.world.start("notify") for _ in range(2)]
    try:
        until(lambda: len(receiver.got) == 2, "a message of each sender at the receiver", timeout_s=DEADLINE_S)
        receiver.may_answer.set()
        outputs = [sender.communicate(timeout=120)[0] for sender in senders]
    finally:
        for sender in senders:
            sender.kill()
            sender.communicate()
    assert [sender.returncode for sender in senders] == [0, 0]
    counts = [int(line.split()[1]) for line in outputs]
    assert min(counts) > 0, "both had a share"
    assert sum(counts) == len(receiver.calls) == len(written) / 2
    assert set(Counter(key for key, _ in receiver.calls).values()) == {1}
    arrived = Counter(part["incident_id"] for body in receiver.bodies for part in body["parts"])
    assert arrived == Counter(written)
    assert {row.status for row in deployment.rows()} == {"sent"}
    assert deployment.notify() == NOTHING


def write_many(engine, *, per_kind):
    """Enqueues due openings, several of each cause and environment; returns their incidents."""
    written = []
    for cause in [cause for cause in Cause if cause is not Cause.CHANNEL_FAILING]:
        for environment in ("production", "staging", "test"):
            for number in range(per_kind):
                target = f"{environment}-{number}"
                about = {"target": target, "environment": environment, "cause": cause}
                with writing(engine) as conn:
                    written.append(incident_store.open_incident(conn, incident(**about), evidence_id=None))
                    outbox.enqueue(conn, message(written[-1], **about), channels=("oncall",), now=NOW)
    return written


def _by_key(receiver):
    return [(key, raw, body) for (key, raw), body in zip(receiver.calls, receiver.bodies, strict=True)]


# --- receivers that fail ---------------------------------------------------------------------------------------------


def test_incidents_during_a_receiver_outage_are_one_message_afterwards(deployment, receiver):
    deployment.configure(oncall=receiver.url)
    receiver.stop()
    deployment.fail("gloo")
    assert deployment.check("gloo")[0] == 4
    deployment.fail("docs")
    deployment.check("docs")
    receiver.start()
    assert receiver.got == []
    deployment.let_time_pass()
    assert deployment.notify() == "Messages: 1 sent\n"
    (body,) = receiver.bodies
    assert {(part["kind"], part["target"]) for part in body["parts"]} == {("opened", "gloo"), ("opened", "docs")}
    assert {row.status for row in deployment.rows()} == {"sent"}
    assert deployment.notify() == NOTHING


def test_a_receiver_that_answers_too_late_gets_the_same_message_again_and_later_ones_separately(engine, receiver):
    harness = DeliveryHarness(engine, receiver, timeout_s=1.0)
    harness.write("a")
    harness.write("b")
    receiver.may_answer.clear()
    assert harness.deliver() == DeliveryReport(deferred=2)
    receiver.may_answer.set()
    harness.write("c")
    harness.clock.advance(minutes=1)
    assert harness.deliver() == DeliveryReport(sent=2)
    first, again, other = receiver.calls
    assert again == first
    assert other[0] != first[0]
    assert [[part["target"] for part in body["parts"]] for body in receiver.bodies] == [["a", "b"], ["a", "b"], []]


class DeliveryHarness:
    """A sender with one channel and a chosen timeout."""

    def __init__(self, engine, receiver, *, timeout_s):
        self.engine, self.clock = engine, Clock()
        self.clock.now = NOW
        self.channel = WebhookChannel(lambda: receiver.url, partial(send_once, timeout_s=timeout_s))

    def write(self, target):
        with writing(self.engine) as conn:
            number = incident_store.open_incident(conn, incident(target=target), evidence_id=None)
            queued = message(number, target=target, environment="test", at=self.clock())
            outbox.enqueue(conn, queued, channels=("oncall",), now=self.clock())

    def deliver(self):
        incident_hooks = ChannelFailures(
            environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=["oncall"],
            route=lambda _: ("oncall",),
        )  # fmt: skip
        sender = Sender(
            self.engine, configured_channels({"oncall": self.channel, LOG_CHANNEL: FakeChannel()}),
            incident_hooks=incident_hooks, holder="host:1", utcnow=self.clock, rand=lambda: 1.0,
        )  # fmt: skip
        return asyncio.run(sender.deliver())


def test_a_receiver_that_refuses_the_sender_gets_nothing_until_its_settings_change(deployment, receiver):
    receiver.answers = [(401, {}, b""), (200, {}, b"")]
    deployment.configure(oncall=receiver.url)
    deployment.fail("gloo")
    assert deployment.check("gloo")[0] == 4
    deployment.fail("docs")
    deployment.check("docs")
    deployment.notify()
    assert len(receiver.calls) == 1
    deployment.configure(oncall=f"{receiver.url}?key=new")
    deployment.notify()
    (about_items,) = [body for body in receiver.bodies[1:] if body["cause"] == "items_failed"]
    assert {part["target"] for part in about_items["parts"]} == {"gloo", "docs"}
    assert {row.status for row in deployment.rows()} == {"sent"}


def test_a_message_that_is_refused_in_either_form_is_a_dead_letter_and_the_next_one_arrives(deployment, receiver):
    receiver.answers = [(400, {}, b""), (400, {}, b""), (200, {}, b"")]
    deployment.configure(oncall=receiver.url)
    deployment.fail("gloo")
    assert deployment.check("gloo") == (0, "Messages: 1 written to the log only, 1 given up\n"), (
        "the log is notified instead"
    )
    assert [set(body) == {"text"} for body in receiver.bodies] == [False, True]
    deployment.fail("docs")
    assert deployment.check("docs") == (0, "Messages: 1 sent\n")
    assert receiver.bodies[2]["target"] == "docs"
    (dead_letter,) = deployment.dead_letters()
    assert (dead_letter["channel"], dead_letter["status"], dead_letter["attempts"]) == ("oncall", "dead", 1)
    assert deployment.notify() == NOTHING


def test_a_date_as_retry_after_is_honoured(deployment, receiver):
    before = datetime.now(UTC).replace(microsecond=0)
    date = before + 20 * MINUTE
    receiver.answers = [(429, {"Retry-After": format_datetime(date, usegmt=True)}, b""), (200, {}, b"")]
    deployment.configure(oncall=receiver.url)
    deployment.fail("gloo")
    assert deployment.check("gloo")[0] == 4
    took = datetime.now(UTC) - before
    (row,) = deployment.rows()
    assert row.next_attempt_at == deployment.state("oncall").blocked_until
    assert date <= row.next_attempt_at <= date + took, "the server's own clock says from when on it counts"
    deployment.notify()
    assert len(receiver.calls) == 1
    deployment.let_time_pass()
    assert deployment.notify() == "Messages: 1 sent\n"
    first, again = receiver.calls
    assert again == first


def test_a_broken_channel_delays_no_other_and_is_reported_on_them(deployment, receiver):
    with HoldingReceiver((404, {}, b"")) as broken, HoldingReceiver() as audit:
        deployment.configure(oncall=receiver.url, broken=broken.url, audit=audit.url)
        deployment.fail("gloo")
        assert deployment.check("gloo")[0] == 0
        deployment.fail("docs")
        assert deployment.check("docs")[0] == 0
        assert len(broken.got) == 1
        expected = [("items_failed", "gloo"), ("channel_failing", "channel:broken"), ("items_failed", "docs")]
        for healthy in (receiver, audit):
            assert [(body["cause"], body["target"]) for body in healthy.bodies] == expected
    assert {row.status for row in deployment.rows() if row.channel != "broken"} == {"sent"}
    assert [row.status for row in deployment.rows() if row.channel == "broken"] == ["due", "due"]


# --- a clock that jumps ----------------------------------------------------------------------------------------------

RUNS = 17
FAULTS = {
    1: lambda simulation: simulation.sandbox.revoke_client(),
    4: lambda simulation: simulation.sandbox.restore_client(),
    7: lambda simulation: simulation.sandbox.set_status(simulation.item_id, "FAILED"),
    9: lambda simulation: simulation.sandbox.set_status(simulation.item_id, "COMPLETED"),
    11: lambda simulation: simulation.sandbox.revoke_client(),
    14: lambda simulation: simulation.sandbox.restore_client(),
}
"""Changes by the run before which they happen. Each lasts one run longer than an incident needs to open or resolve, so
a message may be one run late, but must be sent."""

WRONG_CLOCK_RUNS = [(1, 2), (1, 6), (2, 3), (3, 5), (4, 6), (5, 12), (7, 8), (12, 14), (1, 17)]
"""The runs before which the clock becomes wrong, and before which it is corrected."""


class Simulation:
    """Runs every ten minutes, each with a delivery after it; only the database is kept in between."""

    def __init__(self, world, receiver):
        self.world, self.sandbox = world, world.sandbox
        self.item_id, *_ = world.track(3)
        world.configure(more=f'[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{receiver.url}"\n')

    def tick(self):
        app = App(config=self.world.app.config, engine=self.world.app.engine, clock=self.world.clock)

        async def run_and_deliver():
            (target,) = app.config.targets
            await Run(app.job(target), interrupt=asyncio.Event(), progress=NoProgress())()
            await app.sender().deliver()

        asyncio.run(run_and_deliver())
        self.world.clock.advance(minutes=10)

    def unresolved(self):
        with reading(self.world.app.engine) as conn:
            return incident_store.list_incidents(conn, open_only=True)


@pytest.mark.parametrize("step", [DAY, -DAY], ids=["ahead", "behind"])
@pytest.mark.parametrize(
    ("wrong", "right"), WRONG_CLOCK_RUNS, ids=[f"from run {a} to run {b}" for a, b in WRONG_CLOCK_RUNS]
)
def test_a_clock_that_is_wrong_by_a_day_loses_and_repeats_nothing(small_world, receiver, wrong, right, step):
    simulation = Simulation(small_world, receiver)
    for number in range(RUNS):
        small_world.clock.now += step * ((number == wrong) - (number == right))
        FAULTS.get(number, lambda _: None)(simulation)
        simulation.tick()
    received = Counter((body["cause"], body["kind"]) for body in receiver.bodies)
    assert {kind: count for kind, count in received.items() if kind[1] != "reminder"} == {
        ("unauthorized", "opened"): 2,
        ("unauthorized", "resolved"): 2,
        ("items_failed", "opened"): 1,
        ("items_failed", "resolved"): 1,
    }
    assert received["unauthorized", "reminder"] + received["items_failed", "reminder"] <= 1, (
        "a day is over, as far as it knows"
    )
    assert simulation.unresolved() == []


def test_the_claim_of_a_killed_sender_with_a_clock_a_day_ahead_expires(engine, receiver):
    harness = DeliveryHarness(engine, receiver, timeout_s=15.0)
    harness.write("a")
    with writing(engine) as conn:
        (claimed,) = outbox.claim(conn, holder="killed:9", now=harness.clock() + DAY, lease=CLAIM_LEASE, limit=20)
    assert harness.deliver() == DeliveryReport(sent=1)
    assert [key for key, _ in receiver.calls] == [claimed.key]
