"""The endpoints of a real daemon in its own process, from start to end."""

import contextlib
import re
import signal
import socket
import time

import psycopg
import pytest
from config.test_canary import SECRETS, canary, found, quoted, whole
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import make_url
from support.door import Door
from support.observed import until
from support.running import Running
from web.served import Served, ask

from monitor.config import load_config
from monitor.database.engine import writing

pytestmark = pytest.mark.process

EVERY_SECOND = '[schedule]\nevery = "1s"\n'
HOURLY = '[schedule]\nevery = "1h"\n'
PAGES = ("/healthz", "/readyz", "/metrics")


class Watched(Running):
    """A daemon and a client of its endpoints."""

    def __init__(self, world, listen="127.0.0.1:0"):
        start = world.start
        world.start = lambda command: start(command, env={"MONITOR_WEB__LISTEN": listen})
        super().__init__(world)
        world.start = start

    def ask(self, path, **options):
        if not self.logged("web_listening"):
            self.await_events("web_listening")
        host, _, port = self.logged("web_listening")[-1]["address"].rpartition(":")
        return ask((host, int(port)), path, **options)

    def metric(self, name, **labels):
        for family in text_string_to_metric_families(self.ask("/metrics").body.decode()):
            for sample in family.samples:
                if sample.name == f"ingestion_monitor_{name}" and sample.labels == labels:
                    return sample.value
        return None


@pytest.fixture
def start():
    with contextlib.ExitStack() as started:

        def make(world, **options):
            running = Watched(world, **options)
            started.callback(running.close)
            return running

        yield make


@pytest.mark.smoke
def test_metrics_count_the_work_of_the_daemon(world, start):
    world.configure(check="max_attempts = 1", more=EVERY_SECOND)
    world.track(3)
    daemon = start(world)
    until(lambda: daemon.metric("runs_total", target="gloo", status="complete"), "a run that is counted")
    until(lambda: daemon.metric("items", target="gloo", state="completed") == 3, "the stored items")
    assert daemon.metric("requests_total", target="gloo", status_class="2xx") >= 3
    until(lambda: daemon.metric("breaker_open", target="gloo") == 0, "what is stored after the run")
    assert (daemon.ask("/healthz").status, daemon.ask("/readyz").status) == (200, 200)
    world.sandbox.stop()
    until(lambda: daemon.metric("requests_total", target="gloo", status_class="none"), "requests without an answer")
    assert daemon.ask("/readyz").status == 200
    assert daemon.end()[0] == 143


def test_a_database_that_can_be_read_but_not_written_is_down_until_a_write_succeeds(small_world, start, new_postgres):
    url = make_url(new_postgres(migrated=True))
    small_world.configure(database=url.render_as_string(hide_password=False), more=EVERY_SECOND)
    small_world.track(1)
    daemon = start(small_world)
    daemon.await_events("run_finished")
    turned(url, "on")
    until(lambda: "read-only" in daemon.ask("/readyz").body.decode(), "the reason")
    seen = len(daemon.logged("run_finished"))
    ready = daemon.ask("/readyz")
    assert (ready.status, ready.json["reasons"][0]["part"]) == (503, "database")
    time.sleep(6)  # longer than the interval between two checks
    assert (daemon.metric("database_up"), daemon.logged("database_ready")) == (0, [])
    turned(url, "off")
    daemon.await_events("database_ready")
    daemon.await_events("run_finished", seen + 1)
    assert daemon.metric("database_up") == 1
    assert daemon.end()[0] == 143


def turned(url, read_only):
    """Makes a database read-only or writable, and ends existing sessions, which keep the old setting."""
    with psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    ) as conn:
        conn.execute("SET default_transaction_read_only = off")
        conn.execute(f"ALTER DATABASE {url.database} SET default_transaction_read_only = {read_only}")
        sessions = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        )
        conn.execute(sessions, [url.database])


def test_the_endpoints_answer_before_the_database(small_world, start, new_postgres):
    url = make_url(new_postgres(migrated=True))
    door = Door(url.host, url.port)
    there = url.set(host="127.0.0.1", port=door.port).render_as_string(hide_password=False)
    try:
        small_world.configure(database=there, more=EVERY_SECOND)
        daemon = start(small_world)
        ready = daemon.ask("/readyz")
        assert (daemon.ask("/healthz").status, ready.status) == (200, 503)
        assert [reason["part"] for reason in ready.json["reasons"]] == ["database"]
        assert daemon.metric("database_up") == 0
        door.open()
        until(lambda: daemon.ask("/readyz").status == 200, "a database that answers")
        assert daemon.metric("database_up") == 1
        assert daemon.end()[0] == 143
    finally:
        daemon.close()
        door.close()


def test_a_stopping_daemon_reports_it_until_work_has_ended_and_closes_connections(small_world, start):
    small_world.configure(check="concurrency = 4", more=HOURLY)
    small_world.track(8)
    small_world.sandbox.add_fault(path="/engine", delay_s=60)
    daemon = start(small_world)
    until(lambda: small_world.sandbox.stats()["max_in_flight"] >= 4, "four questions in flight")
    assert daemon.ask("/readyz").status == 200
    host, port = re.fullmatch(r"(.*):(\d+)", daemon.logged("web_listening")[0]["address"]).groups()
    with socket.create_connection((host, int(port))), socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        daemon.process.send_signal(signal.SIGTERM)
        started_s = time.monotonic()
        until(lambda: daemon.ask("/readyz").json["status"] == "stopping", "a word about the end")
        assert daemon.process.wait(timeout=20) == 143
    assert time.monotonic() - started_s < 10


def test_a_port_in_use_does_not_stop_the_daemon(small_world, start):
    small_world.configure(more=EVERY_SECOND)
    small_world.track(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        daemon = start(small_world, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        daemon.await_events("web_not_listening")
        daemon.await_events("run_finished")
        (logged_events,) = daemon.logged("web_not_listening")
        assert ("is used" in logged_events["reason"], logged_events["retry_in_s"]) == (True, 30)
        assert daemon.end()[0] == 143


def test_refused_and_accepted_reloads_are_reported(small_world, start):
    small_world.configure(more=HOURLY)
    daemon = start(small_world)
    daemon.await_events("daemon_started")
    good = small_world.config_path.read_text()
    small_world.config_path.write_text("nonsense = 1")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.metric("config_last_reload_successful") == 0, "a refused reload")
    ready = daemon.ask("/readyz")
    assert (ready.status, [warning["part"] for warning in ready.json["warnings"]]) == (200, ["configuration"])
    small_world.config_path.write_text(good.replace('name = "gloo"', 'name = "renamed"'))
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.metric("config_last_reload_successful") == 1, "a reload")
    until(lambda: daemon.metric("schedule_interval_seconds", target="renamed") == 3600, "the new target")
    assert daemon.metric("schedule_interval_seconds", target="gloo") is None


def test_a_newer_schema_is_noticed_by_a_running_daemon(world, start):
    world.configure(more=HOURLY)
    daemon = start(world)
    daemon.await_events("daemon_started")
    until(lambda: daemon.ask("/readyz").status == 200, "a daemon that is ready")
    with writing(world.app.engine) as conn:
        conn.exec_driver_sql("UPDATE ingestion_monitor_version SET version_num = '9999'")
    until(lambda: daemon.ask("/readyz").status == 503, "a newer schema")
    assert [reason["part"] for reason in daemon.ask("/readyz").json["reasons"]] == ["schema"]


def test_no_endpoint_shows_a_secret(tmp_path):
    path = tmp_path / "monitor.toml"
    text = whole(quoted).replace("@db/x", "@127.0.0.1:1/x").replace('\nenvironment = "production"', "")
    path.write_text(f'environment = "test"\nweb = {{ listen = "127.0.0.1:0" }}\n{text}', encoding="utf-8")
    (tmp_path / ".env").write_text(f"DOTENV={quoted(canary('dotenv'))}", encoding="utf-8")
    with Served(load_config(path, environ={})) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        served.do(lambda: setattr(served.state, "reload_error", canary("database")))
        answers = [ask(served.address, page) for page in PAGES]
    assert [answer.status for answer in answers] == [200, 503, 200]
    assert [found(f"{answer.headers}{answer.body.decode()}") for answer in answers] == [[], [], []]
    assert len(SECRETS) == 15
