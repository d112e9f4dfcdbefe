"""Commits whose answer was lost: nothing is lost and nothing is done twice."""

import os
import socket

import psycopg
import pytest
from sqlalchemy import make_url, text
from support.thinned import smoke_first
from support.world import World
from survival.proxy import Proxy

from monitor.database import postgres
from monitor.database.engine import connect, reading
from monitor.errors import StoreUnavailableError
from monitor.model import RunStatus

pytestmark = pytest.mark.process


@pytest.fixture
def proxied(tmp_path, sandbox, new_postgres):
    """A World with a proxy in front of its database."""
    database = make_url(new_postgres(migrated=True))
    with Proxy(database.port) as proxy:
        through = database.set(port=proxy.port).render_as_string(hide_password=False)
        made = World(tmp_path, sandbox, database=through, sync_log=new_postgres())
        yield made, proxy
        made.close()


@pytest.mark.parametrize(
    ("after", "what"),
    smoke_first([(b"INTO item_events", "outcomes"), (b"INTO snapshots", "closing"), (b"staged_ids", "sync")]),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_commit_whose_answer_was_lost_is_not_written_twice(proxied, after, what):
    world, proxy = proxied
    good, bad = world.track(20), world.track(3, status="FAILED")
    proxy.lose_the_answer(after=after)
    report = world.run()
    assert proxy.lost == 1
    assert (report.status, report.snapshot.completed, report.snapshot.failed) == (RunStatus.COMPLETE, 20, 3)
    assert [incident.member_count for incident in report.open_incidents] == [3]
    assert [row["status"] for row in world.rows("SELECT status FROM runs")] == ["complete"]
    assert world.rows("SELECT count(*) AS n FROM snapshots") == [{"n": 1}]
    assert world.rows("SELECT count(*) AS n FROM item_events WHERE kind = 'state'") == [{"n": len(good + bad)}]
    assert world.rows("SELECT count(*) AS n FROM notifications") == [{"n": 1}]
    assert world.rows("SELECT holder FROM leases") == [{"holder": None}]


def test_a_closed_run_is_not_reported_as_lost_after_its_lease_expired(proxied, new_postgres):
    world, proxy = proxied
    world.track(2)

    def hand_on():
        direct = make_url(world.database).set(port=proxy.upstream, drivername="postgresql")
        with psycopg.connect(direct.render_as_string(hide_password=False)) as conn:
            conn.execute("UPDATE leases SET epoch = epoch + 1")

    proxy.lose_the_answer(after=b"INTO snapshots", then=hand_on)
    assert world.run().status is RunStatus.COMPLETE
    assert (proxy.lost, world.rows("SELECT epoch FROM leases")) == (1, [{"epoch": 2}])
    assert [row["status"] for row in world.rows("SELECT status FROM runs")] == ["complete"]


def test_a_statement_without_an_answer_times_out_with_an_error(proxied, monkeypatch):
    world, proxy = proxied
    monkeypatch.setattr(postgres, "_CLIENT_MARGIN_S", 0.1)
    engine = connect(world.database, statement_timeout_s=0.2)

    def ask():
        with reading(engine) as conn:
            conn.execute(text("SELECT 1"))
            proxy.stop_forwarding()
            conn.execute(text("SELECT 2"))

    with pytest.raises(StoreUnavailableError, match="did not answer in time"):
        ask()
    proxy.resume_forwarding()
    with reading(engine) as conn:
        assert conn.scalar(text("SELECT 3")) == 3
    engine.dispose()


def test_a_slow_statement_is_cancelled_by_the_server_and_its_connection_stays(new_postgres):
    engine = connect(new_postgres(), statement_timeout_s=0.2)
    with pytest.raises(StoreUnavailableError, match="did not answer in time"), reading(engine) as conn:
        conn.execute(text("SELECT pg_sleep(20)"))
    engine.dispose()


def test_a_session_has_default_timeouts_and_configured_ones_win(new_postgres):
    url = new_postgres()
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    said = []
    for suffix in ("", "?options=-c%20lock_timeout%3D1s"):
        engine = connect(url + suffix)
        with reading(engine) as conn:
            said.append([conn.scalar(text(f"SHOW {limit}")) for limit in limits])
        engine.dispose()
    assert said == [["2min", "30s", "90s"], ["2min", "1s", "90s"]]


def test_a_vanished_host_is_detected_by_tcp_timeouts(new_postgres):
    engine = connect(new_postgres())
    with engine.connect() as conn, socket.socket(fileno=os.dup(conn.connection.fileno())) as ours:
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        kept_alive = ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert (kept_alive, *(ours.getsockopt(socket.IPPROTO_TCP, each) for each in options)) == (1, 30, 10, 3, 60_000)
    engine.dispose()
