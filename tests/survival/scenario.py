"""A scripted scenario with a run per stage: documents fail and are fixed, a key is revoked and restored.

The database and the receiver must end with the same content, however often a process was killed in between.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from support.receiver import Receiver

from monitor.app import App, utcnow
from monitor.database import leases as lease_store
from monitor.database.engine import reading, writing
from monitor.database.tables import leases, notifications
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run

ITEMS = 12
PAUSE_S = 0.02
CHANNEL = '[[channels]]\nname = "oncall"\ntype = "webhook"\nurl = "{url}"\n'


class ScriptedReceiver(Receiver):
    """A receiver that takes a moment for each message, so that a process can be killed while it waits."""

    def start(self):
        super().start()
        self._server.handle_error = lambda *_: None  # a killed client disconnects in the middle of a request

    def next_answer(self):
        time.sleep(PAUSE_S)
        return super().next_answer()

    def calls(self):
        """Key and content of each message, in the order in which they came."""
        return [(headers["idempotency-key"], body) for _, headers, body in list(self.got)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of the scenario, without times, ids and numbers of attempts."""

    snapshots: tuple
    incidents: tuple
    events: Counter
    items: Counter
    item_events: Counter
    messages: Counter


class Scenario:
    """The scenario in one world, with one receiver."""

    def __init__(self, world, receiver, *, slow=True):
        self.world, self.receiver = world, receiver
        world.configure(check="concurrency = 2", more=CHANNEL.format(url=receiver.url))
        self.items = world.track(ITEMS)
        if slow:
            world.sandbox.add_fault(path="/engine", delay_s=PAUSE_S, passes=True)

    def begin(self, stage: int):
        """Sets the world up for a stage."""
        STAGES[stage][1](self)

    def play(self, stage: int):
        """Plays a stage without a kill."""
        self.begin(stage)
        self.run()
        self.deliver()

    def run(self):
        """One run in real time, in this process."""
        app = self.app()
        return asyncio.run(Run(app.job(app.config.targets[0]), interrupt=asyncio.Event(), progress=NoProgress())())

    def deliver(self):
        """What `notify` does, in this process."""
        return asyncio.run(self.app().sender().deliver())

    def app(self) -> App:
        """The App of a new process, which has only the database."""
        return App(config=self.world.app.config, engine=self.world.app.engine)

    def outcome(self) -> Outcome:
        """The result so far."""
        rows, calls = self.world.rows, dict(self.receiver.calls())
        return Outcome(
            snapshots=_tuples(rows(
                "SELECT status, abort_reason, total, completed, pending, failed, unknown FROM history ORDER BY run_id"
            )),
            incidents=_tuples(rows(
                "SELECT cause, state, member_count, CASE WHEN cause LIKE 'items_%' THEN peak_count END FROM incidents "
                "ORDER BY cause"
            )),
            events=Counter(_tuples(rows(
                "SELECT i.cause, e.kind FROM incident_events e JOIN incidents i ON i.id = e.incident_id"
            ))),
            items=Counter(_tuples(rows(
                "SELECT state, known_state, stage, CASE WHEN removed_at IS NULL THEN 1 ELSE 0 END AS tracked FROM items"
            ))),
            item_events=Counter(_tuples(rows("SELECT kind, old, new FROM item_events"))),
            messages=Counter((body["cause"], body["kind"]) for body in calls.values()),
        )  # fmt: skip

    # --- time ----------------------------------------------------------------------------------------------------

    def lease_left(self) -> timedelta:
        """How long the lease of the target still lasts, by the clock of leases."""
        with reading(self.world.app.engine) as conn:
            now = lease_store.lease_now(conn, utcnow=utcnow)
            ends: datetime | None = conn.execute(select(leases.c.expires_at)).scalar()
        return max(ends - now, timedelta(0)) if ends else timedelta(0)

    def claims_left(self) -> timedelta:
        """How long the claims of messages still last."""
        with reading(self.world.app.engine) as conn:
            ends: datetime | None = conn.execute(select(func.max(notifications.c.claimed_until))).scalar()
        return max(ends - utcnow(), timedelta(0)) if ends else timedelta(0)

    def let_pass(self, left: timedelta):
        """Moves the expiry of leases and claims, as if that much time had passed."""
        with writing(self.world.app.engine) as conn:
            for table, column in ((leases, leases.c.expires_at), (notifications, notifications.c.claimed_until)):
                for ends in conn.execute(select(column).where(column.is_not(None)).distinct()).scalars().all():
                    conn.execute(update(table).where(column == ends).values({column.name: ends - left}))


def _tuples(rows) -> tuple:
    return tuple(tuple(row.values()) for row in rows)


def _all_completed(scenario: Scenario):
    for item_id in scenario.items:
        scenario.world.sandbox.set_status(item_id, "COMPLETED")


def _three_have_problems(scenario: Scenario):
    first, second, third, *_ = scenario.items
    scenario.world.sandbox.set_status(first, "FAILED")
    scenario.world.sandbox.set_status(second, "FAILED")
    scenario.world.sandbox.set_status(third, "EMBEDDING")
    scenario.items += scenario.world.track(2)
    scenario.world.log("DELETE FROM sync_log WHERE item_id = :i", [{"i": scenario.items.pop(3)}])


def _revoked(scenario: Scenario):
    scenario.world.sandbox.revoke_client()


def _nothing_new(scenario: Scenario):
    """Nothing changes."""


def _restored(scenario: Scenario):
    scenario.world.sandbox.restore_client()
    scenario.world.sandbox.set_status(scenario.items[0], "COMPLETED")
    scenario.world.sandbox.set_status(scenario.items[4], "FAILED")


STAGES: tuple[tuple[str, Callable[[Scenario], None]], ...] = (
    ("all is well", _all_completed),
    ("two documents fail, one is pending again; two are new, one was removed", _three_have_problems),
    ("the key is revoked", _revoked),
    ("the key is still revoked: an incident opens", _nothing_new),
    ("the key is restored; one document is fixed, another fails", _restored),
    ("all is well: three incidents resolve", _all_completed),
    ("all stays well", _nothing_new),
)


def outcome_without_kills(world) -> Outcome:
    """The result of the scenario without kills."""
    with ScriptedReceiver() as receiver:
        scenario = Scenario(world, receiver, slow=False)
        for stage in range(len(STAGES)):
            scenario.play(stage)
        return scenario.outcome()
