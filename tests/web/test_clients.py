"""Slow, flooding and idle clients: probes are still answered, and the shutdown does not wait for clients."""

import asyncio
import contextlib
import socket
import threading
import time
from datetime import timedelta
from http.client import HTTPException

import pytest
from support.observed import until
from support.samples import NOW
from web.served import Served, ask, config

from monitor.database import leases
from monitor.database.engine import writing
from monitor.reports.html import StaticFile
from monitor.threads import run_in_lease_pool
from monitor.web import pages, server


@pytest.fixture
def served(tmp_path):
    with Served(config(tmp_path, database=f"sqlite:///{tmp_path / 'monitor.db'}")) as up:
        until(lambda: up.logged_events("web_listening"), "endpoints that listen")
        yield up


def opened(served, count, *, sends=b""):
    stack = contextlib.ExitStack()
    for _ in range(count):
        connection = stack.enter_context(socket.create_connection(served.address, timeout=10))
        if sends:
            connection.sendall(sends)
    return stack


def ended(connection):
    """Whether the server has closed the connection."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1000) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.process
@pytest.mark.parametrize("sends", [b"", b"GET /healthz HT"], ids=["silent", "in the middle of a request"])
def test_a_thousand_idle_connections_do_not_block_a_probe(served, sends):
    with opened(served, 1000, sends=sends):
        started_s = time.monotonic()
        answers = [ask(served.address, "/healthz").status for _ in range(20)]
        assert (answers, time.monotonic() - started_s < 5) == ([200] * 20, True)
        assert open_connections(served) <= server.MAX_CONNECTIONS


def open_connections(served):
    def count():
        running = served.endpoints._server  # loaded after its address is listened on
        return len(running.connections) if running else 0

    return served.do(count)


def test_the_connection_that_is_idle_longest_is_closed_for_a_new_one(served):
    with opened(served, server.MAX_CONNECTIONS):
        until(lambda: open_connections(served) == server.MAX_CONNECTIONS, "as many connections as allowed")
        assert ask(served.address, "/healthz").status == 200


@pytest.mark.process
def test_a_client_that_does_not_send_its_request_in_time_is_disconnected(served, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.3)
    with socket.create_connection(served.address, timeout=10) as connection:
        ends_s = time.monotonic() + 10
        with contextlib.suppress(OSError):
            while not ended(connection):
                assert time.monotonic() < ends_s, "never disconnected"
                connection.sendall(b"X")
    assert ask(served.address, "/healthz").status == 200


def read_all(connection, *, pause_s, size=100_000):
    """What a client gets that reads slowly, until the server ends it."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(size):
            got += part
            time.sleep(pause_s)
    return got


def large_answers(monkeypatch, size):
    """Makes the script of the page this large."""
    file = StaticFile(name="page.js", content=b"x" * size, media_type="text/javascript", etag='"large"')
    monkeypatch.setattr(pages, "static_file", lambda name: file)
    pages._served.cache_clear()


@pytest.fixture
def _small_cache():
    yield
    pages._served.cache_clear()


SCRIPT = b"GET /static/page.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.process
@pytest.mark.usefixtures("_small_cache")
def test_a_client_that_reads_slowly_but_steadily_gets_everything(served, monkeypatch):
    size = 6_000_000
    large_answers(monkeypatch, size)
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.2)
    monkeypatch.setattr(server, "READ_TIMEOUT_S", 0.5)
    with socket.create_connection(served.address, timeout=20) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.sendall(SCRIPT)
        started_s = time.monotonic()
        got = read_all(connection, pause_s=0.02)
    assert len(got.partition(b"\r\n\r\n")[2]) == size
    assert time.monotonic() - started_s > 1  # several times the timeout


@pytest.mark.process
@pytest.mark.usefixtures("_small_cache")
def test_a_client_that_stops_reading_is_disconnected(served, monkeypatch):
    size = 6_000_000
    large_answers(monkeypatch, size)
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.2)
    monkeypatch.setattr(server, "READ_TIMEOUT_S", 0.3)
    with socket.create_connection(served.address, timeout=20) as connection:
        connection.sendall(SCRIPT)
        until(lambda: open_connections(served) == 1, "the connection")
        until(lambda: open_connections(served) == 0, "its end", timeout_s=20)
        assert len(read_all(connection, pause_s=0)) < size
    assert ask(served.address, "/healthz").status == 200


@pytest.mark.process
def test_a_body_that_does_not_arrive_in_time_ends_the_connection(served, monkeypatch):
    monkeypatch.setattr(server, "REQUEST_TIMEOUT_S", 0.3)
    head = (
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    with socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(head)
        ends_s = time.monotonic() + 10
        with contextlib.suppress(OSError):
            while not ended(connection):
                assert time.monotonic() < ends_s, "never disconnected"
                connection.sendall(b"x")
    assert ask(served.address, "/healthz").status == 200


@pytest.mark.usefixtures("_small_cache")
def test_a_download_is_not_the_first_to_be_closed_for_a_new_connection(served, monkeypatch):
    large_answers(monkeypatch, 20_000_000)
    with socket.create_connection(served.address, timeout=10) as download:
        download.sendall(SCRIPT)
        assert download.recv(10).startswith(b"HTTP/1.1 2")
        with opened(served, server.MAX_CONNECTIONS + 10):
            until(lambda: open_connections(served) == server.MAX_CONNECTIONS, "as many connections as allowed")
            assert ask(served.address, "/healthz").status == 200
            assert len(download.recv(100_000)) > 0


@pytest.mark.process
@pytest.mark.smoke
def test_many_clients_of_all_kinds_delay_no_renewal_of_a_lease(page, database, connected):
    """Silent ones, slow ones, and several that ask for a page again and again, all in the process of the runs."""
    served, engine, stop, waits_s = page(), connected(database), threading.Event(), []
    with writing(engine) as conn:
        epoch = leases.acquire(conn, target="gloo", holder="test", now=NOW, ttl=timedelta(seconds=30))

    def renew():
        with writing(engine, urgent=True) as conn:
            leases.renew(conn, target="gloo", epoch=epoch, now=NOW, ttl=timedelta(seconds=30))

    async def renew_often():
        for _ in range(20):
            started_s = time.monotonic()
            await run_in_lease_pool(renew)
            waits_s.append(time.monotonic() - started_s)

    def flood():
        while not stop.is_set():
            with contextlib.suppress(OSError, HTTPException):
                ask(served.address, "/")

    threads = [threading.Thread(target=flood) for _ in range(8)]
    with opened(served, 30), opened(served, 20, sends=b"POST /login HTTP/1.1\r\nHost: "):
        for each in threads:
            each.start()
        try:
            asyncio.run(renew_often())
            probe = ask(served.address, "/healthz").status
        finally:
            stop.set()
            for each in threads:
                each.join()
    assert (len(waits_s), probe) == (20, 200)
    assert max(waits_s) < 10  # of a lease of 30 s


def test_a_request_with_endless_headers_is_refused(served):
    with socket.create_connection(served.address, timeout=10) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 100_000)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    assert ask(served.address, "/healthz").status == 200


def test_many_requests_on_one_connection_are_answered_in_turn(served):
    with socket.create_connection(served.address, timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        got = b""
        while got.count(b'"status":"ok"') < 50:
            received = connection.recv(100_000)
            assert received, f"closed after {got.count(b'HTTP/1.1 200')} answers"
            got += received
    assert got.count(b"HTTP/1.1 ") == got.count(b"HTTP/1.1 200") == 50


def test_the_shutdown_does_not_wait_for_connected_clients(tmp_path):
    with contextlib.ExitStack() as clients:
        with Served(config(tmp_path, database=f"sqlite:///{tmp_path / 'monitor.db'}")) as up:
            until(lambda: up.logged_events("web_listening"), "endpoints that listen")
            address = up.address
            clients.enter_context(opened(up, 30))
            clients.enter_context(opened(up, 10, sends=b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
            started_s = time.monotonic()
        assert time.monotonic() - started_s < 2
        with pytest.raises(ConnectionRefusedError):
            ask(address, "/healthz")
