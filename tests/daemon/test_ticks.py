"""The daemon's ticks on a fast clock: their times and run keys, and a comparison with a cron job."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from support.fastclock import FastClock, driven

from monitor.app import App, open_database
from monitor.cli.check import Session
from monitor.config import Config, load_config
from monitor.database import leases
from monitor.database.engine import writing

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
FIVE = '[schedule]\nevery = "5m"\n'


def config_of(world):
    return load_config(world.config_path, environ={})


def ran(world):
    """Start times and run keys of runs."""
    rows = world.rows("SELECT run_key, started_at FROM runs ORDER BY id")
    return [(row["run_key"], str(row["started_at"])[11:19]) for row in rows]


async def test_the_first_run_starts_at_once_and_later_runs_on_the_grid(small_world):
    small_world.configure(more=FIVE)
    small_world.track(1)
    async with driven(config_of(small_world), FastClock(T0 + timedelta(minutes=3, seconds=20))) as daemon:
        await daemon.until(T0 + timedelta(minutes=11))
    assert ran(small_world) == [
        ("every 5m 2026-03-01T03:00:00Z", "03:03:20"),
        ("every 5m 2026-03-01T03:05:00Z", "03:05:00"),
        ("every 5m 2026-03-01T03:10:00Z", "03:10:00"),
    ]
    assert small_world.rows("SELECT cause FROM evidence") == []


async def test_a_daemon_with_many_targets_looks_at_each_of_their_schedules_once(small_world, monkeypatch):
    more = "".join(small_world.another_target(f"t{number}") for number in range(30))
    small_world.configure(more='[schedule]\ncron = "0 9 * * *"\n' + more)
    looked_at, schedule_for = [], Config.schedule_for
    monkeypatch.setattr(Config, "schedule_for", lambda *given: looked_at.append(1) or schedule_for(*given))
    async with driven(config_of(small_world), FastClock(T0)) as daemon:
        await daemon.pass_time(seconds=1)
    # for schedules, canaries and pages, but not all of them for each: 5,000 targets took minutes to start
    assert len(looked_at) <= 6 * 31


async def test_the_objects_of_a_configuration_are_built_once_though_many_threads_ask_for_them(small_world, monkeypatch):
    def build(**given):
        built.append(threading.current_thread())
        time.sleep(0.05)  # as long as its imports take
        return App(**given)

    built = []
    monkeypatch.setattr("monitor.daemon.service.App", build)
    more = "".join(small_world.another_target(f"t{number}") for number in range(5))
    small_world.configure(more='[schedule]\ncron = "0 9 * * *"\n' + more)
    async with driven(config_of(small_world), FastClock(T0)) as daemon:
        await daemon.pass_time(seconds=1)
    assert built == [threading.main_thread()]


async def test_a_restart_repeats_and_misses_no_run_key(small_world):
    small_world.configure(more=FIVE)
    small_world.track(1)
    fast = FastClock(T0)
    for minutes in (1, 2, 7):
        async with driven(config_of(small_world), fast) as daemon:
            await daemon.until(T0 + timedelta(minutes=minutes))
    assert [started for _, started in ran(small_world)] == ["03:00:00", "03:05:00"]
    assert small_world.rows("SELECT cause FROM evidence") == []


async def test_after_a_suspend_there_is_one_run_for_all_that_was_missed(small_world):
    small_world.configure(more=FIVE)
    small_world.track(1)
    fast = FastClock(T0)
    async with driven(config_of(small_world), fast) as daemon:
        await daemon.pass_time(seconds=30)
        fast.jump(timedelta(hours=3, minutes=1))
        await daemon.pass_time(minutes=4)
    assert [started for _, started in ran(small_world)] == ["03:00:00", "06:01:40", "06:05:00"]


async def test_correcting_a_wrong_clock_stops_no_runs(small_world):
    small_world.configure(more=FIVE)
    small_world.track(1)
    fast = FastClock(T0 + timedelta(days=900))
    async with driven(config_of(small_world), fast) as daemon:
        await daemon.pass_time(seconds=30)
        fast.jump(timedelta(days=-900))
        await daemon.pass_time(minutes=6)
    assert len(ran(small_world)) == 3


async def test_jitter_delays_a_run_without_changing_its_run_key_or_missed_runs(small_world):
    small_world.configure(more='[schedule]\ncron = "*/5 * * * *"\njitter = "4m"\n')
    small_world.track(1)
    offset = config_of(small_world).schedule.due_times("gloo").offset
    async with driven(config_of(small_world), FastClock(T0 - timedelta(minutes=2))) as daemon:
        await daemon.until(T0 + timedelta(minutes=9, seconds=59))
    at = [f"{T0 + timedelta(minutes=minutes) + offset:%H:%M:%S}" for minutes in (0, 5)]
    assert offset > timedelta(minutes=1)
    assert [(run_key.split()[-1], started) for run_key, started in ran(small_world)][-2:] == [
        ("2026-03-01T03:00:00Z", at[0]), ("2026-03-01T03:05:00Z", at[1]),
    ]  # fmt: skip
    assert small_world.rows("SELECT cause FROM evidence") == []


NIGHTLY = '[schedule]\ncron = "0 3 * * *"\n'


async def test_one_run_follows_a_night_of_missed_runs(small_world):
    small_world.configure(more=NIGHTLY)
    small_world.track(1)
    fast = FastClock(T0 - timedelta(minutes=1))
    async with driven(config_of(small_world), fast) as daemon:
        await daemon.pass_time(minutes=5)
    fast.now += timedelta(hours=24)
    for _ in range(2):
        async with driven(config_of(small_world), fast) as daemon:
            await daemon.pass_time(minutes=5)
    assert [(run_key[-20:-10], started) for run_key, started in ran(small_world)] == [
        ("2026-03-01", "03:00:00"), ("2026-03-02", "03:04:00"),
    ]  # fmt: skip


@pytest.mark.parametrize("before", [None, '[schedule]\ncron = "0 2 * * *"\n'], ids=["never ran", "another cron"])
@pytest.mark.process
async def test_with_cron_the_first_run_waits_for_the_next_time(small_world, before):
    small_world.track(1)
    fast = FastClock(T0 - timedelta(hours=2))
    if before:
        small_world.configure(more=before)
        async with driven(config_of(small_world), fast) as daemon:
            await daemon.pass_time(minutes=70)
        assert len(ran(small_world)) == 1
    fast.now = T0 + timedelta(hours=5)
    small_world.configure(more=NIGHTLY)
    async with driven(config_of(small_world), fast) as daemon:
        await daemon.pass_time(hours=1)
    assert len(ran(small_world)) == (1 if before else 0)


async def test_the_run_key_of_a_killed_run_is_executed_by_another_daemon_after_the_lease(small_world):
    """On SQLite, since leases on PostgreSQL run by the server's clock."""
    small_world.configure(more='[schedule]\nevery = "1h"\n')
    small_world.track(1)
    fast = FastClock(T0)
    ttl = timedelta(seconds=30)
    with writing(small_world.app.engine) as conn:
        leases.acquire(conn, target="gloo", holder="gone:1", now=T0 - timedelta(seconds=5), ttl=ttl)
    async with driven(config_of(small_world), fast) as daemon:
        await daemon.pass_time(minutes=5)
    ((run_key, started),) = ran(small_world)
    assert (run_key, started) == ("every 1h 2026-03-01T03:00:00Z", "03:00:25")


async def test_a_run_key_that_another_daemon_executed_is_skipped(world):
    world.configure(more='[schedule]\nevery = "10m"\n')
    world.track(1)
    fast = FastClock(T0)
    world.clock.now = T0
    await asyncio.to_thread(world.run, run_key="every 10m 2026-03-01T03:00:00Z")
    async with driven(config_of(world), fast) as daemon:
        await daemon.pass_time(minutes=9)
        assert len(ran(world)) == 1
        await daemon.pass_time(minutes=2)
    assert [run_key[-9:] for run_key, _ in ran(world)] == ["03:00:00Z", "03:10:00Z"]


@pytest.mark.process
async def test_two_daemons_share_the_run_keys(world):
    world.configure(more=FIVE)
    world.track(1)
    fast = FastClock(T0)
    config = config_of(world)
    one = fast.daemon(config)
    serving = asyncio.create_task(one.serve())  # before the other daemon, which must get the signal
    async with driven(config, fast) as two:
        await fast.until(T0 + timedelta(minutes=22), one, two.daemon)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
    run_keys = [run_key for run_key, _ in ran(world)]
    assert len(run_keys) == len(set(run_keys)) == 5
    assert {row["status"] for row in world.rows("SELECT status FROM runs")} == {"complete"}


# --- a cron job and a daemon -----------------------------------------------------------------------------------------

SCRIPT = [
    "", "", "revoke", "", "", "restore", "", "", "fail", "", "fix", "", "down", "", "", "up", "", "", "revoke",
    "restore", "", "lose the log", "", "find the log", "",
]  # fmt: skip


def act(world, made, what):
    """One night's events at the engine and the pipeline."""
    sandbox = world.sandbox
    acts = {
        "": lambda: None,
        "revoke": sandbox.revoke_client,
        "restore": sandbox.restore_client,
        "fail": lambda: [sandbox.set_status(each, "FAILED") for each in made[:2]],
        "fix": lambda: [sandbox.set_status(each, "COMPLETED") for each in made[:2]],
        "down": sandbox.stop,
        "up": sandbox.start,
        "lose the log": lambda: world.log("ALTER TABLE sync_log RENAME TO mislaid"),
        "find the log": lambda: world.log("ALTER TABLE mislaid RENAME TO sync_log"),
    }
    acts[what]()


def what_became(engine):
    """Incidents, their messages, and runs, with their times.

    Without the maximum number of rejected requests, which depends on how many waited for the token.
    """
    with engine.connect() as conn:

        def rows(query):
            return [tuple(row) for row in conn.exec_driver_sql(query)]

        return {
            "incidents": rows(
                "SELECT target, cause, state, first_evidence_at, opened_at, last_evidence_at, resolved_at "
                "FROM incidents ORDER BY id"
            ),
            "events": rows("SELECT incident_id, kind, at FROM incident_events ORDER BY id"),
            "messages": rows(
                "SELECT incident_id, channel, kind, status, created_at FROM notifications ORDER BY created_at, id"
            ),
            "runs": rows("SELECT status, abort_reason, started_at, finished_at, due, answered FROM runs ORDER BY id"),
        }


async def by_cron_job(world, made):
    """Runs like a CronJob, once per run key: each with a new App, like a new process."""
    fast = FastClock(T0)
    for n, what in enumerate(SCRIPT):
        act(world, made, what)
        config = config_of(world)
        app = App(config=config, engine=open_database(config), clock=fast)
        session = Session(app=app, run_key=f"monitor-{n}")
        await session.run(config.targets)
        app.engine.dispose()
        fast.now += timedelta(minutes=5)


async def by_daemon(world, made):
    async with driven(config_of(world), FastClock(T0 - timedelta(minutes=5))) as daemon:
        await daemon.pass_time(seconds=1)
        for n, what in enumerate(SCRIPT):
            act(world, made, what)
            await daemon.until(T0 + n * timedelta(minutes=5) + timedelta(minutes=1))


@pytest.mark.process
@pytest.mark.nightly
async def test_a_cron_job_and_a_daemon_produce_the_same_incidents_messages_and_times(small_world):
    """The job runs on the daemon's grid; all its messages are compared with those of the daemon."""
    world = small_world
    made = world.track(4)
    became = {}
    for name, play in {"cron job": by_cron_job, "daemon": by_daemon}.items():
        path = f"sqlite:///{world.folder / name.replace(' ', '-')}.db"
        world.configure(check="max_attempts = 1", more=FIVE, database=path, group_wait="0s")
        await play(world, made)
        became[name] = what_became(world.app.engine)
    early = became["daemon"]["runs"].pop(0)
    assert early[0] == "complete", "the daemon's run at its start"
    for part in became["daemon"]:
        assert became["daemon"][part] == became["cron job"][part]
    assert {cause for _, cause, *_ in became["daemon"]["incidents"]} == {
        "unauthorized", "items_failed", "outage", "sync_log_unreadable",
    }  # fmt: skip
