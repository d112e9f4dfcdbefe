"""Canaries in the daemon, on a fast clock: their times, a restart, a reload."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.fastclock import FastClock, driven

from monitor.config import load_config
from monitor.daemon.canaries import canary_changes

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
HOURLY = '[targets.canary]\nevery = "1h"\n\n[schedule]\nevery = "10m"\n'


@pytest.fixture
def site(small_world):
    small_world.configure(more=HOURLY)
    small_world.track(1)
    state = small_world.sandbox._state
    state.engine.settings = replace(small_world.sandbox.settings, item_seconds=0.0)
    return small_world


def config_of(world):
    return load_config(world.config_path, environ={})


def canaries(world):
    return world.rows("SELECT run_key, status, clean_up FROM canaries ORDER BY id")


@pytest.mark.process
@pytest.mark.nightly
async def test_they_run_at_the_start_and_at_each_interval_beside_the_runs(site):
    async with driven(config_of(site), FastClock(T0 + timedelta(minutes=20))) as daemon:
        await daemon.until(T0 + timedelta(hours=2, minutes=5))
    assert canaries(site) == [
        {"run_key": f"every 1h 2026-03-01T0{hour}:00:00Z", "status": "succeeded", "clean_up": "done"}
        for hour in (3, 4, 5)
    ]
    assert len(site.rows("SELECT id FROM runs")) >= 10
    assert site.sandbox.stats()["items"] == 1


@pytest.mark.process
async def test_a_restart_repeats_none(site):
    fast = FastClock(T0)
    for minutes in (5, 10, 61):
        async with driven(config_of(site), fast) as daemon:
            await daemon.until(T0 + timedelta(minutes=minutes))
    assert [row["run_key"][-9:] for row in canaries(site)] == ["03:00:00Z", "04:00:00Z"]


CHANGES = {
    "added": ("", HOURLY, (("gloo",), ())),
    "removed": (HOURLY, "", ((), ("gloo",))),
    "another interval": (HOURLY, HOURLY.replace("1h", "2h"), (("gloo",), ("gloo",))),
    "the same": (HOURLY, HOURLY.replace("10m", "5m"), ((), ())),
    "by the command alone": (HOURLY, "[targets.canary]\n", ((), ("gloo",))),
}


@pytest.mark.parametrize(("before", "after", "changes"), CHANGES.values(), ids=CHANGES)
def test_a_reload_schedules_what_changed(small_world, before, after, changes):
    small_world.configure(more=before)
    old = config_of(small_world)
    small_world.configure(more=after)
    found = canary_changes(old, config_of(small_world))
    assert (found.added, found.removed) == changes
