"""Laws of incidents and delivery over random nights: any evidence, killed processes, failing receivers.

Evaluation and sending are the product's own, on real SQLite; a receiver is a fake channel.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import insert, select, update
from support.fakes import FakeChannel, configured_channels
from support.memory import folder_in_memory
from support.samples import NOW
from support.scale import examples
from support.world import Clock

from monitor.database.engine import connect, reading, writing
from monitor.database.schema import upgrade
from monitor.database.tables import items, notifications
from monitor.incidents import acknowledge as handling
from monitor.incidents import silence_store as silences
from monitor.incidents import store as incidents
from monitor.incidents.channel_failures import ChannelFailures
from monitor.incidents.decide import OperatorAction
from monitor.incidents.evaluate import IncidentEvaluator
from monitor.incidents.members import AgeLimits
from monitor.incidents.rulebook import DEFAULT_RULES
from monitor.incidents.silence_expiry import SilenceExpiry
from monitor.model import Cause, Evidence, IncidentState, RunStatus
from monitor.notifications.channels import SendOutcome, SendResult
from monitor.notifications.delivery import CLAIM_LEASE, Sender
from monitor.notifications.messages import RunFacts
from monitor.runs import store as runs

MINUTE = timedelta(minutes=1)
TARGETS, CHANNELS, DOCUMENTS = ("gloo", "docs"), ("oncall", "audit"), ("a", "b", "c")
AGE_LIMITS = AgeLimits(stuck_after=30 * MINUTE, missing_after=15 * MINUTE)
SEEN = {
    "nothing": (),
    "unauthorized": (Evidence(cause=Cause.UNAUTHORIZED, count=3, breakdown={"401": 3}),),
    "outage": (Evidence(cause=Cause.OUTAGE, count=2, breakdown={"502": 2}),),
    "both": (
        Evidence(cause=Cause.UNAUTHORIZED, count=1, breakdown={"401": 1}),
        Evidence(cause=Cause.OUTAGE, count=2, breakdown={"timeout": 2}),
    ),
}
RESULTS = {
    "up": SendResult(outcome=SendOutcome.DELIVERED, reason="accepted"),
    "down": SendResult(outcome=SendOutcome.RETRY, reason="HTTP 503"),
    "silent": SendResult(outcome=SendOutcome.RETRY, reason="no answer (timeout)", certain=False),
    "refuses us": SendResult(outcome=SendOutcome.SUSPENDED, reason="HTTP 401"),
}


class Receiver:
    """A channel that keeps what it received, even if it did not answer."""

    threaded = False

    def __init__(self):
        self.mood, self.kills, self.took = "up", False, []

    async def send(self, message, *, key, plain=False):
        if self.mood in {"up", "silent"}:
            self.took.append((key, message))
        if self.kills:
            raise SystemError("the process is killed before it can mark anything")
        return RESULTS[self.mood]


class Site:
    """One database, its targets and receivers, and a process that can be restarted."""

    def __init__(self, url, *, group_wait=timedelta(0)):
        self.url, self.group_wait, self.clock = url, group_wait, Clock()
        self.clock.now = NOW
        self.receivers = {name: Receiver() for name in CHANNELS}
        self.fingerprint, self.run_ids = "1", Counter()
        self.restart()

    def restart(self):
        self.engine = connect(self.url)
        self.evaluators = {name: self._evaluator(name) for name in TARGETS}
        route = self._route
        self.incident_hooks = ChannelFailures(
            environment="test", rule=DEFAULT_RULES[Cause.CHANNEL_FAILING], channels=list(CHANNELS), route=route
        )
        silence_expiry = SilenceExpiry(environment="test", route=route, channel_router=self.incident_hooks.router)
        self.sender = Sender(
            self.engine,
            configured_channels({**self.receivers, "log": FakeChannel()}, None),
            incident_hooks=self.incident_hooks,
            holder="host:1",
            utcnow=self.clock,
            rand=lambda: 1.0,
            before_claim=[lambda conn, now: silence_expiry.notify_expired(conn, now=now)],
        )
        self.sender._fingerprint = lambda _: self.fingerprint

    def _evaluator(self, target):
        return IncidentEvaluator(
            target=target, environment="test", rules=DEFAULT_RULES, age_limits=AGE_LIMITS, route=self._route,
            group_wait=self.group_wait,
        )  # fmt: skip

    @staticmethod
    def _route(attributes):
        return CHANNELS if attributes["cause"] != "channel_failing" else ("audit",)

    def run(self, target, *, seen="nothing", failed=(), complete=True, sync_log_empty=False):
        """A run over three items, some of which failed."""
        with writing(self.engine) as conn:
            self._documents(conn, target, failed)
            run_id = runs.start(conn, target=target, environment="test", run_key=None, epoch=1, started_at=self.clock())
            status = RunStatus.COMPLETE if complete else RunStatus.PARTIAL
            answered = 30 if seen == "nothing" else 3
            runs.finish(
                conn, run_id=run_id, status=status, abort_reason=None, owner_cause=None, due=30, answered=answered,
                error=None, finished_at=self.clock(), snapshot=None,
            )  # fmt: skip
            facts = RunFacts(run_id=run_id, status=status, total=30, unknown=30 - answered, answered=answered)
            self.evaluators[target].evaluate(
                conn, facts=facts, evidence=SEEN[seen], now=self.clock(), sync_log_empty=sync_log_empty
            )

    def _documents(self, conn, target, failed):
        mine = items.c.target == target
        if conn.execute(select(items.c.item_id).where(mine)).first() is None:
            row = {"target": target, "state": "completed", "first_seen_at": NOW}
            conn.execute(insert(items), [{**row, "item_id": f"{target}-{each}"} for each in DOCUMENTS])
        for each in DOCUMENTS:
            state = "failed" if each in failed else "completed"
            conn.execute(update(items).where(mine, items.c.item_id == f"{target}-{each}").values(state=state))

    def deliver(self):
        return asyncio.run(self.sender.deliver())

    def rows(self):
        with reading(self.engine) as conn:
            return conn.execute(select(notifications).order_by(notifications.c.id)).all()

    def incidents(self):
        with reading(self.engine) as conn:
            return incidents.list_incidents(conn, limit=1000)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("laws") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@contextlib.contextmanager
def database(template):
    with tempfile.TemporaryDirectory(dir=folder_in_memory()) as folder:
        path = Path(folder) / "monitor.db"
        shutil.copyfile(template, path)
        yield f"sqlite:///{path}"


class Nights(RuleBasedStateMachine):
    """Any sequence of events; the invariants must hold after each."""

    template = None
    played = 0
    """Nights that ended normally."""

    @initialize()
    def begin(self):
        self._stack = contextlib.ExitStack()
        self.site = Site(self._stack.enter_context(database(self.template)))
        self.kills = 0

    @property
    def open(self):
        return [each for each in self.site.incidents() if each.state is not IncidentState.RESOLVED]

    @rule(
        whose=st.sampled_from(TARGETS),
        seen=st.sampled_from(sorted(SEEN)),
        failed=st.sets(st.sampled_from(DOCUMENTS)),
        complete=st.booleans(),
    )
    def run(self, whose, seen, failed, complete):
        before = {each.id for each in self.open if each.cause is Cause.ITEMS_FAILED}
        self.site.run(whose, seen=seen, failed=failed, complete=complete)
        ended = [each for each in self.site.incidents() if each.id in before and each.state is IncidentState.RESOLVED]
        assert not (ended and failed), "an incident about items resolves only if none of them is failed any more"
        self.site.clock.advance(minutes=5)

    @rule()
    def deliver(self):
        self.site.deliver()

    @rule(name=st.sampled_from(CHANNELS))
    def deliver_and_be_killed(self, name):
        """The receiver gets a message, and the process is killed before it can mark it as sent."""
        receiver = self.site.receivers[name]
        receiver.kills, took = True, len(receiver.took)
        with contextlib.suppress(SystemError):
            self.site.deliver()
        receiver.kills = False
        self.kills += len(receiver.took) - took
        self.site.restart()

    @rule(name=st.sampled_from(CHANNELS), mood=st.sampled_from(sorted(RESULTS)))
    def change(self, name, mood):
        self.site.receivers[name].mood = mood

    @rule()
    def fix_settings(self):
        self.site.fingerprint += "'"

    @rule(minutes=st.sampled_from([1, 20, 300]))
    def wait(self, minutes):
        self.site.clock.advance(minutes=minutes)

    @rule()
    def restart(self):
        self.site.restart()

    @rule(cause=st.sampled_from(["unauthorized", "items_failed", "*"]), hours=st.integers(1, 4))
    def silence(self, cause, hours):
        now = self.site.clock()
        with writing(self.site.engine) as conn:
            silences.add(
                conn, matchers={"cause": (cause,)}, starts_at=now, ends_at=now + timedelta(hours=hours), comment="",
                author="ana", now=now,
            )  # fmt: skip

    @rule(data=st.data(), end=st.booleans())
    def act(self, data, end):
        """An operator acknowledges or resolves an incident."""
        if self.open:
            incident = data.draw(st.sampled_from(self.open))
            action = handling.resolve if end else handling.acknowledge
            with writing(self.site.engine) as conn:
                action(conn, incident.id, operator_action=OperatorAction(by="ana"), now=self.site.clock())

    @invariant()
    def no_two_open_incidents_have_one_key(self):
        keys = [(each.target, each.key) for each in self.open]
        assert len(keys) == len(set(keys))

    @invariant()
    def no_resolution_is_sent_without_an_opening(self):
        opened = set()
        for row in self.site.rows():
            if row.kind == "opened":
                opened.add((row.incident_id, row.channel))
            if row.kind == "resolved" and row.status == "sent":
                assert (row.incident_id, row.channel) in opened

    @invariant()
    def a_message_is_repeated_only_under_its_own_key(self):
        """A message that was received twice had one key; a changed message has another."""
        for receiver in self.site.receivers.values():
            received = Counter((key, message.kind, message.incident_id, message.at) for key, message in receiver.took)
            keys = Counter(key for key, *_ in received)
            assert max(keys.values(), default=0) <= 1, "two messages have one key"

    def teardown(self):
        """Once all faults are fixed, every opening was sent and nothing waits."""
        for receiver in self.site.receivers.values():
            receiver.mood = "up"
        self.site.fingerprint += "!"
        self.site.clock.advance(hours=5)
        for _ in range(4):
            self.site.deliver()
            self.site.clock.now += CLAIM_LEASE
        rows = self.site.rows()
        assert {row.status for row in rows} <= {"sent", "superseded", "dead"}
        notified = {(row.incident_id, row.channel) for row in rows if row.kind == "opened" and row.status != "due"}
        for incident in self.open:
            assert incident.channels
            assert {(incident.id, channel) for channel in incident.channels} <= notified
        self.site.engine.dispose()
        self._stack.close()
        type(self).played += 1


@pytest.mark.process
def test_laws_of_a_night(template):
    machine = type("TheseNights", (Nights,), {"template": template})
    case = machine.TestCase
    case.settings = settings(max_examples=examples(10), stateful_step_count=35, deadline=None, phases=(Phase.generate,))
    case("runTest").runTest()
    assert machine.played >= examples(10)


STEP = st.tuples(
    st.sampled_from(TARGETS), st.sampled_from(sorted(SEEN)), st.sets(st.sampled_from(DOCUMENTS)), st.booleans()
)


def outcome(site):
    """Incidents and messages, without ids of runs and times of delivery."""
    found = [
        (each.target, each.cause, each.state, each.opened_at, each.first_evidence_at, each.resolved_at, each.peak_count)
        for each in reversed(site.incidents())
    ]
    sent = sorted((row.incident_id, row.channel, row.kind, row.created_at) for row in site.rows())
    return found, sent


@pytest.mark.process
@given(st.lists(STEP, min_size=1, max_size=25))
@settings(max_examples=examples(8), deadline=None)
def test_cron_runs_and_daemon_ticks_lead_to_the_same(template, steps):
    with database(template) as one, database(template) as other:
        cron, daemon = Site(one), Site(other, group_wait=timedelta(seconds=30))
        for target, seen, failed, complete in steps:
            for site in (cron, daemon):
                site.run(target, seen=seen, failed=failed, complete=complete)
            cron.deliver()
            cron.restart()  # each run is its own process
            cron.clock.advance(minutes=5)
            for _ in range(30):
                daemon.clock.advance(seconds=10)
                if _ % 6 == 0:
                    daemon.deliver()
        for site in (cron, daemon):
            site.clock.advance(minutes=1)
            site.deliver()
        assert outcome(cron) == outcome(daemon)
        for name in CHANNELS:
            assert [each[1].kind for each in cron.receivers[name].took] or not cron.rows()
        cron.engine.dispose()
        daemon.engine.dispose()
