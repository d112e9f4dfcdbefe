"""Slow, flooding and idle clients: probes are still answered, and the shutdown does not wait for clients."""

import contextlib
import socket
import time

import pytest
from support.observed import until
from web.served import Served, ask, config

from monitor.web import server


@pytest.fixture
def served(tmp_path):
    with Served(config(tmp_path, database=f"sqlite:///{tmp_path / 'monitor.db'}")) as up:
        until(lambda: up.logged_events("web_listening"), "endpoints that listen")
        yield up


def connected(served, count, *, sends=b""):
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
    with connected(served, 1000, sends=sends):
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
    with connected(served, server.MAX_CONNECTIONS):
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
            clients.enter_context(connected(up, 30))
            clients.enter_context(connected(up, 10, sends=b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
            started_s = time.monotonic()
        assert time.monotonic() - started_s < 2
        with pytest.raises(ConnectionRefusedError):
            ask(address, "/healthz")
