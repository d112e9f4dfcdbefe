"""Responses of the endpoints over real HTTP: liveness, readiness with reasons, and errors as JSON."""

import json
import shutil
import socket
import time
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, make_url, text
from support.observed import until
from web.served import Served, ask, config

from monitor.database.schema import upgrade
from monitor.web.readiness import HEARTBEAT_LIMIT_S


@pytest.fixture
def serve(tmp_path, store_url):
    with _Stack() as stack:

        def make(**changes):
            served = stack.enter(Served(config(tmp_path, database=store_url, **changes)))
            until(lambda: served.logged_events("web_listening"), "endpoints that listen")
            return served

        yield make


class _Stack:
    def __init__(self):
        self._open = []

    def __enter__(self):
        return self

    def enter(self, served):
        self._open.append(served.__enter__())
        return served

    def __exit__(self, *_):
        for served in self._open:
            served.__exit__()


def execute(url, *statements):
    engine = create_engine(make_url(url).set(drivername="sqlite" if url.startswith("sqlite") else "postgresql+psycopg"))
    with engine.begin() as conn:
        for statement in statements:
            conn.execute(text(statement))
    engine.dispose()


def reasons(answer):
    return [(reason["part"], reason.get("target")) for reason in answer.json["reasons"]]


def test_a_new_daemon_is_alive_and_ready(serve):
    served = serve()
    alive, ready = ask(served.address, "/healthz"), ask(served.address, "/readyz")
    assert (alive.status, ready.status) == (200, 200)
    assert {name: alive.json[name] for name in ("service", "status")} == {
        "service": "ingestion-monitor",
        "status": "ok",
    }
    assert ready.json == {"service": "ingestion-monitor", "status": "ready", "reasons": [], "warnings": []}


def test_a_stalled_event_loop_is_neither_alive_nor_ready(serve):
    served = serve()
    served.do(lambda: setattr(served.state, "heartbeat_s", time.monotonic() - HEARTBEAT_LIMIT_S - 1))
    alive, ready = ask(served.address, "/healthz"), ask(served.address, "/readyz")
    assert (alive.status, alive.json["status"]) == (503, "stalled")
    assert (ready.status, reasons(ready)) == (503, [("daemon", None)])
    served.do(lambda: setattr(served.state, "heartbeat_s", time.monotonic()))
    assert ask(served.address, "/healthz").status == 200


def test_a_stopping_daemon_still_answers_and_reports_it(serve):
    served = serve()
    served.do(lambda: setattr(served.state, "stopping", True))
    alive, ready = ask(served.address, "/healthz"), ask(served.address, "/readyz")
    assert (alive.status, ready.status, ready.json["status"]) == (200, 503, "stopping")


def test_an_overdue_target_is_named(serve):
    served = serve()
    since = {"gloo": served.tracker.snapshot().at - timedelta(hours=1)}
    served.do(lambda: setattr(served.tracker, "_watched_since", since))
    ready = ask(served.address, "/readyz")
    assert (ready.status, reasons(ready)) == (503, [("runs", "gloo")])
    assert "no run has ended yet" in ready.json["reasons"][0]["reason"]


def test_a_refused_reload_is_a_warning(serve):
    served = serve()
    served.do(lambda: setattr(served.state, "reload_error", "s3cret"))
    ready = ask(served.address, "/readyz")
    assert (ready.status, [warning["part"] for warning in ready.json["warnings"]]) == (200, ["configuration"])
    assert b"s3cret" not in ready.body


def test_a_suspended_channel_is_a_warning(serve, store_url):
    execute(store_url, "INSERT INTO channels (name, suspended_at, failures) VALUES ('hook', '2026-03-01 12:00:00', 1)")
    served = serve(more='[[channels]]\nname = "hook"\ntype = "webhook"\nurl = "https://hooks.example/x"\n')
    ready = ask(served.address, "/readyz")
    assert (ready.status, [warning["channel"] for warning in ready.json["warnings"]]) == (200, ["hook"])


def test_a_newer_schema_is_reported_with_its_remedy(serve, store_url):
    execute(store_url, "UPDATE ingestion_monitor_version SET version_num = '9999'")
    served = serve()
    ready = ask(served.address, "/readyz")
    assert (ready.status, reasons(ready)) == (503, [("schema", None)])
    assert "install the newer ingestion-monitor" in ready.json["reasons"][0]["remedy"]


def test_a_replaced_database_file_is_noticed(tmp_path):
    path, copy = tmp_path / "monitor.db", tmp_path / "copy.db"
    upgrade(f"sqlite:///{path}")
    shutil.copyfile(path, copy)
    with Served(config(tmp_path, database=f"sqlite:///{path}")) as served:
        until(lambda: served.logged_events("web_listening"), "endpoints that listen")
        assert ask(served.address, "/readyz").status == 200
        path.write_bytes(b"something else entirely" * 1000)
        until(lambda: ask(served.address, "/readyz").status == 503, "a database that is none")
        said = ask(served.address, "/readyz").json["reasons"][0]
        assert (said["part"], "is not a SQLite database" in said["reason"]) == ("database", True)
        assert ask(served.address, "/healthz").status == 200
        path.unlink()
        until(lambda: reasons(ask(served.address, "/readyz")) == [("database", None)], "a database that is gone")
        shutil.copyfile(copy, path)
        until(lambda: ask(served.address, "/readyz").status == 200, "the database again")


@pytest.mark.parametrize("page", ["/healthz", "/readyz", "/metrics"])
def test_head_equals_get_without_the_body(serve, page):
    served = serve()
    got, head = ask(served.address, page), ask(served.address, page, method="HEAD")
    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert {"server", "x-powered-by"} & {*got.headers} == set()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/%00", 404),
        ("POST", "/healthz", 405),
        ("DELETE", "/metrics", 405),
        ("OPTIONS", "/readyz", 405),
    ],
)
def test_other_requests_are_refused_in_json(serve, method, path, status):
    answer = ask(serve().address, path, method=method)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert ("allow" in answer.headers) == (status == 405)


def test_a_body_is_refused_and_its_connection_ended(serve):
    answer = ask(serve().address, "/readyz", method="POST", body=b"x" * 100_000)
    assert (answer.status, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("host", ["", "evil.example", "127.0.0.1:1"])
def test_the_host_header_does_not_matter(serve, host):
    assert ask(serve().address, "/healthz", headers={"Host": host}).status == 200


def test_an_upgrade_request_is_answered_as_plain_http(serve):
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "eA==",
        "Sec-WebSocket-Version": "13",
    }
    assert ask(serve().address, "/healthz", headers=headers).status == 200


def test_the_endpoints_listen_on_ipv6(serve):
    served = serve(listen="[::1]:0")
    assert served.address[0] == "::1"
    assert ask(served.address, "/healthz").status == 200


def test_a_defect_is_logged_and_its_details_are_not_sent_to_the_client(serve):
    served = serve()
    served.do(lambda: setattr(served.tracker, "_counters", None))
    answer = ask(served.address, "/healthz")
    assert (answer.status, list(json.loads(answer.body))) == (500, ["error"])
    assert [each["path"] for each in served.logged_events("endpoint_failed")] == ["/healthz"]


def test_invalid_http_is_refused_and_not_logged(serve, caplog):
    served = serve()
    with socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    assert ask(served.address, "/healthz").status == 200
    assert (caplog.records, [each["event"] for each in served.logged]) == ([], ["web_listening"])
