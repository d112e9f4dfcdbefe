"""Many targets with one revoked key: one opening and one resolution per channel, end to end."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert
from support.receiver import Receiver
from support.scale import THOROUGH

from monitor.database.engine import writing
from monitor.database.tables import tracked_items
from monitor.runs.progress import NoProgress
from monitor.runs.run import Run

pytestmark = pytest.mark.process

GROUP_WAIT = timedelta(seconds=30)
MANY = 200 if THOROUGH else 60
"""More than one batch of a delivery; `make thorough` uses more."""

TARGET = """
[[targets]]
name = "{name}"
provider = "gloo"
base_url = "{base_url}"
publisher_id = "{publisher}"
auth = {auth}
check = {{ strategy = "items" }}
"""

CHANNEL = """
[[channels]]
name = "{name}"
type = "webhook"
url = "{url}"
"""

ROUTES = """
[[routes]]
match = { team = "credentials" }
channels = ["oncall"]
continue = true

[[routes]]
match = { cause = "unauthorized", target = "gloo-*" }
channels = ["audit"]
continue = true

[[routes]]
match = { team = "pipeline" }
channels = ["pipeline"]
"""


class Fleet:
    """Targets at one engine with one client, each with two documents in a built-in log; and three receivers."""

    def __init__(self, world, receivers, *, count):
        self.world, self.sandbox, self.receivers = world, world.sandbox, receivers
        self.names = [f"gloo-{number:03}" for number in range(count)]
        world.config_path.write_text(self._configuration(), encoding="utf-8")
        world.close()
        made = self.sandbox.create_items(2 * count, status="COMPLETED")
        rows = [
            {"target": name, "item_id": item_id, "added_at": datetime.now(UTC)}
            for name, item_id in zip(2 * self.names, made, strict=True)
        ]
        with writing(world.app.engine) as conn:
            conn.execute(insert(tracked_items), rows)

    def _configuration(self):
        world = self.world
        about = {
            "base_url": self.sandbox.url,
            "publisher": self.sandbox.settings.publisher_id,
            "auth": world.client_auth,
        }
        head = f'database = "{world.database}"\nenvironment = "test"\ngroup_wait = "{GROUP_WAIT.seconds}s"\n'
        targets = [TARGET.format(name=name, **about) for name in self.names]
        channels = [CHANNEL.format(name=name, url=each.url) for name, each in self.receivers.items()]
        return "".join([head, *targets, *channels, ROUTES])

    def check(self):
        """Checks all targets in a separate process; returns the exit code and the number of sent messages."""
        done = self.world.cli("check", "--json")
        said = json.loads(done.stdout)
        assert len(said["targets"]) == len(self.names)
        return done.returncode, said["messages"]["sent"]

    def received(self, name):
        """The messages of a receiver: kind, title and targets of each."""
        bodies = [body for _, _, body in self.receivers[name].got]
        return [(body["kind"], body["title"], sorted(part["target"] for part in body["parts"])) for body in bodies]

    async def run(self, name):
        """One run of the daemon for a target; its messages wait for the group wait."""
        (target,) = [target for target in self.world.app.config.targets if target.name == name]
        job = self.app.job(target, scheduled=True)
        return await Run(job, interrupt=asyncio.Event(), progress=NoProgress())()

    def run_all_a_second_apart(self):
        """Runs all targets with a delivery after each run, like the daemon; returns the number of sent messages."""

        async def run_all():
            sent = 0
            for name in self.names:
                await self.run(name)
                sent += (await self.app.sender().deliver()).sent
                self.world.clock.advance(seconds=1)
            return sent

        return asyncio.run(run_all())

    def deliver(self):
        return asyncio.run(self.app.sender().deliver()).sent

    @property
    def app(self):
        return replace(self.world.app, clock=self.world.clock, limits=self.world.app.throttles)


@pytest.fixture
def receivers():
    with Receiver() as oncall, Receiver() as audit, Receiver() as pipeline:
        yield {"oncall": oncall, "audit": audit, "pipeline": pipeline}


def test_many_targets_behind_a_revoked_key_are_one_message_per_channel_and_one_at_the_end(small_world, receivers, here):
    fleet = Fleet(small_world, receivers, count=MANY)
    fleet.sandbox.revoke_client()
    assert [fleet.check(), fleet.check()] == [(4, 2), (4, 0)]
    opened = ("opened", f"{MANY} targets: the API rejects the credentials", fleet.names)
    assert [fleet.received(name) for name in receivers] == [[opened], [opened], []]
    fleet.sandbox.restore_client()
    assert [fleet.check(), fleet.check()] == [(0, 0), (0, 2)]
    resolved = ("resolved", f"{MANY} targets: the API rejects the credentials: resolved", fleet.names)
    assert [fleet.received(name) for name in receivers] == [[opened, resolved], [opened, resolved], []]
    shown = here(small_world, "incidents", "list", "--all", "--json", "--limit", "1000").stdout
    listed = json.loads(shown)["incidents"]
    assert {(each["target"], each["cause"], each["state"]) for each in listed} == {
        (name, "unauthorized", "resolved") for name in fleet.names
    }
    assert len(listed) == MANY


def test_incidents_of_consecutive_daemon_runs_are_one_message_per_channel(world, receivers):
    fleet = Fleet(world, receivers, count=10)
    fleet.sandbox.revoke_client()
    assert [fleet.run_all_a_second_apart(), fleet.run_all_a_second_apart()] == [0, 0]
    world.clock.now += GROUP_WAIT
    assert fleet.deliver() == 2
    opened = ("opened", "10 targets: the API rejects the credentials", fleet.names)
    assert [fleet.received(name) for name in receivers] == [[opened], [opened], []]
    fleet.sandbox.restore_client()
    assert [fleet.run_all_a_second_apart(), fleet.run_all_a_second_apart()] == [0, 0]
    world.clock.now += GROUP_WAIT
    assert fleet.deliver() == 2
    resolved = ("resolved", "10 targets: the API rejects the credentials: resolved", fleet.names)
    assert [fleet.received(name) for name in receivers] == [[opened, resolved], [opened, resolved], []]
    assert fleet.deliver() == 0
