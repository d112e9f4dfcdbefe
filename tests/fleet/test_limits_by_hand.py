"""Commands by hand and canaries beside workers: each process claims its part while it sends, and hands it back."""

import asyncio
import contextlib
import signal

import pytest
from support.running import Running

from monitor.app.throttles import limits_of
from monitor.database.engine import connect, reading
from monitor.database.fleet_tables import throttle_claims
from monitor.fleet import queue_schema

pytestmark = pytest.mark.process

WHOLE = 32
FLEET = '[targets.canary]\nevery = "12h"\n[schedule]\nevery = "12h"\n[fleet]\nworkers = true\nstalled_after = "5s"\n'
COMMANDS = {
    "check": ["check"],
    "dry run": ["check", "--dry-run"],
    "wait": ["wait", "gloo", "{item}"],
    "status": ["status", "gloo", "{item}"],
    "doctor": ["doctor"],
    "canary": ["canary", "gloo"],
    "canary of the daemon": ["daemon"],
}


@pytest.fixture
def site(small_world, new_postgres):
    """A World with workers, and one item."""
    small_world.database = new_postgres(migrated=True)
    queue_schema.upgrade(small_world.database)
    small_world.configure(auth=small_world.key_auth, check=f"concurrency = {WHOLE}", more=FLEET)
    (small_world.item,) = small_world.track(1)
    return small_world


@contextlib.asynccontextmanager
async def a_share(site):
    """The throttle of a worker's share, with a claim for as long as it lasts."""
    config, engine = site.app.config, connect(site.database)
    try:
        limits = limits_of(config, is_worker=True)
        async with limits.throttle(config.targets[0], config.targets, engine) as throttle:
            yield throttle
    finally:
        engine.dispose()


async def until_part(throttle, part):
    while throttle.concurrency.ceiling != part * WHOLE:  # noqa: ASYNC110  # it is told by another process
        await asyncio.sleep(0.01)


def holders(site):
    with reading(site.app.engine) as conn:
        return [row.holder for row in conn.execute(throttle_claims.select())]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_it_claims_a_part_while_it_sends_and_hands_it_back(site, command):
    async with a_share(site) as share:
        with site.sandbox._state.lock:  # the API does not answer yet
            running = Running(site, *(word.format(item=site.item) for word in command))
            try:
                await until_part(share, 0.5)
                assert len(holders(site)) == 2
            except BaseException:
                running.close()
                raise
        try:
            await until_part(share, 1.0)  # the daemon and a wait go on, but send nothing
            if command[0] == "daemon":
                running.end()
            await asyncio.to_thread(running.process.wait)
            assert len(holders(site)) == 1
        finally:
            running.close()
    assert holders(site) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
async def test_whatever_ends_it_its_part_is_free(site, end):
    async with a_share(site) as share:
        with site.sandbox._state.lock:
            running = Running(site, "check")
            try:
                await until_part(share, 0.5)
                running.process.send_signal(end)
                await asyncio.to_thread(running.process.wait)
                if end != signal.SIGKILL:
                    assert len(holders(site)) == 1, "handed back, at once"
                await until_part(share, 1.0)
            finally:
                running.close()
    assert holders(site) == [] or end == signal.SIGKILL
