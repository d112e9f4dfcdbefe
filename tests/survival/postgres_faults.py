"""Faults of PostgreSQL and of the connection to it, on a private server: one row of the table each."""

import contextlib
import time

import psycopg
from sqlalchemy import make_url
from survival.fault_runner import FaultResult, faulty, kind_of, recover, row, said, start_mid_run
from survival.proxy import Proxy

from monitor.database.schema import upgrade


@contextlib.contextmanager
def on(server, folder, name, **options):
    """A World on a new database of a server."""
    server.ask(f"CREATE DATABASE {name}")
    url = make_url(server.url).set(database=name).render_as_string(hide_password=False)
    with faulty(folder / name, url, **options) as world:
        yield world


def restarted(server, folder):
    with on(server, folder, "restarted") as world:
        process = start_mid_run(world)
        server.stop()
        time.sleep(1)
        server.start()
        return row(world, "server restarted (immediate) during a run", process, over_s=time.monotonic())


def stopped_for_long(server, folder):
    with on(server, folder, "stopped") as world:
        process = start_mid_run(world)
        server.stop()
        try:
            process.wait(timeout=100)
        finally:
            server.start()
        return row(world, "server down for longer than 30 s", process, over_s=time.monotonic())


def sessions_killed(server, folder):
    with on(server, folder, "killed") as world:
        process = start_mid_run(world)
        for _ in range(3):
            server.end_sessions()
            time.sleep(0.3)
        return row(world, "all sessions killed three times during a run", process, over_s=time.monotonic())


def killed_while_closing(server, folder):
    with on(server, folder, "closing") as world:
        url = make_url(world.database).render_as_string(hide_password=False)
        with psycopg.connect(url) as blocker:
            blocker.execute("LOCK TABLE snapshots IN SHARE MODE")
            process = world.start("check", "--json")
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%snapshots%'"
            )
            ends_s = time.monotonic() + 60
            while server.ask(waiting) == [(0,)] and time.monotonic() < ends_s:
                time.sleep(0.05)
            server.end_sessions()
        return row(world, "session killed while the run closes", process, over_s=time.monotonic())


def frozen(server, folder, seconds=20):
    with on(server, folder, "frozen") as world:
        process = start_mid_run(world)
        server.freeze()
        time.sleep(seconds)
        server.thaw()
        return row(world, "server frozen for 20 s", process, over_s=time.monotonic())


def crowded(server, folder):
    with on(server, folder, "crowded") as world, contextlib.ExitStack() as crowd:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                crowd.enter_context(contextlib.closing(psycopg.connect(world.database)))
        process = world.start("check", "--json")
        process.wait(timeout=100)
        crowd.close()
        return row(world, "no connection left (max_connections)", process, over_s=time.monotonic())


def read_only(server, folder):
    with on(server, folder, "readonly") as world:
        server.ask("ALTER DATABASE readonly SET default_transaction_read_only = on")
        process = world.start("check", "--json")
        process.wait(timeout=100)
        server.ask("ALTER DATABASE readonly RESET default_transaction_read_only")
        return row(world, "read-only transactions (a standby)", process, over_s=time.monotonic())


def without_rights(server, folder):
    with on(server, folder, "unprivileged") as world:
        server.ask("DROP ROLE IF EXISTS reader")
        server.ask("CREATE ROLE reader LOGIN PASSWORD 'canary-reader' IN ROLE pg_read_all_data")
        own = world.database
        reader = make_url(own).set(username="reader", password="canary-reader")
        world.configure(database=reader.render_as_string(hide_password=False), check="concurrency = 2")
        process = world.start("check", "--json")
        process.wait(timeout=100)
        world.configure(database=own, check="concurrency = 2")
        return row(world, "role without the right to write", process, over_s=time.monotonic())


def silent(server, folder):
    """The network drops everything without notifying either end."""
    server.ask("CREATE DATABASE silent")
    url = make_url(server.url).set(database="silent")
    upgrade(url.render_as_string(hide_password=False))
    with Proxy(server.port) as proxy:
        through = url.set(port=proxy.port).render_as_string(hide_password=False)
        with faulty(folder / "silent", through) as world:
            process = start_mid_run(world)
            proxy.stop_forwarding()
            process.wait(timeout=190)
            proxy.resume_forwarding()
            return row(world, "network silent forever during a run", process, over_s=time.monotonic())


def daemon_through_a_restart(server, folder):
    with on(server, folder, "daemon", more='[schedule]\nevery = "1s"\n') as world:
        process = world.start("daemon")
        try:
            _await_runs(world, 2)
            server.stop()
            time.sleep(3)
            server.start()
            over_s = time.monotonic()
            _await_runs(world, 1, since=_runs(world))
            recovered_s = time.monotonic() - over_s
        finally:
            process.terminate()
            _, err = process.communicate(timeout=30)
        half, _ = recover(world, over_s)
        return FaultResult(
            fault="server restarted (immediate) between runs",
            database=kind_of(world),
            command="daemon",
            ended="continued by itself",
            said=said(err),
            half_written=half,
            recovered_s=recovered_s,
        )


def _runs(world):
    engine_rows = world.rows("SELECT count(*) AS n FROM snapshots")
    return engine_rows[0]["n"]


def _await_runs(world, more, since=0):
    ends_s = time.monotonic() + 60
    while _runs(world) < since + more:
        assert time.monotonic() < ends_s, "the daemon does not run"
        time.sleep(0.1)
