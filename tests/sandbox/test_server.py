import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from monitor.errors import MonitorError
from monitor.sandbox import Sandbox, SandboxSettings, serve

URL = "/engine/v2/items/not-a-uuid"
HEADERS = {"Authorization": "Bearer sandbox-key"}
SERVE = "from monitor.sandbox import *; serve(SandboxSettings(), on_ready=lambda url: print(url, flush=True))"
SERVE_WITH_SIGNALS_ELSEWHERE = """
import signal
from monitor.sandbox import *

def on_ready(url):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # so that the server's thread gets it
    print(url, flush=True)

serve(SandboxSettings(), on_ready=on_ready)
"""


def get(url, **options):
    return httpx.get(url, trust_env=False, **options)


@pytest.fixture
def own(_no_complaint):
    """A sandbox that the test can stop and start."""
    serving = Sandbox()
    yield serving
    serving.stop()


def test_a_restart_keeps_the_port_and_the_data(own):
    own.start()
    url, port = own.url, own.port
    (item_id,) = own.create_items(1, status="COMPLETED")
    own.stop()
    with pytest.raises(httpx.ConnectError):
        get(url)
    own.start()
    assert (own.url, own.port) == (url, port)
    assert get(f"{url}/engine/v2/items/{item_id}", headers=HEADERS).json()["status"] == "COMPLETED"


def serving_threads():
    return {thread for thread in threading.enumerate() if thread.name == "sandbox"}


def test_starting_and_stopping_twice_does_no_harm(own):
    before = serving_threads()
    own.stop()
    own.start()
    own.start()
    assert len(serving_threads() - before) == 1
    assert get(own.url + URL).status_code == 401
    own.stop()
    own.stop()
    assert serving_threads() == before
    with pytest.raises(httpx.ConnectError):
        get(own.url)


def test_stopping_right_after_starting_leaves_no_open_socket(own):
    own.start()
    own.stop()
    with socket.create_server(("127.0.0.1", own.port)) as taken:
        assert taken.getsockname()[1] == own.port


def test_stopping_drops_calls_in_flight_at_once(own):
    own.start()
    own.add_fault(delay_s=3600)
    with socket.create_connection(("127.0.0.1", own.port)) as connection:
        connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while own.stats()["max_in_flight"] == 0:
            time.sleep(0.005)
        own.stop()  # waiting for the call would end in a complaint
        assert connection.recv(1) == b""
    assert own.requests("gone") == 1


def test_stopping_drops_idle_connections(own):
    own.start()
    with httpx.Client(base_url=own.url, trust_env=False) as client:
        assert client.get(URL).status_code == 401
        own.stop()
        with pytest.raises(httpx.TransportError):
            client.get(URL)


def test_a_port_in_use_is_reported_in_one_sentence(own):
    own.start()
    other = Sandbox(SandboxSettings(port=own.port))
    sentence = (
        rf"the sandbox can't listen on 127\.0\.0\.1 port {own.port}: Address already in use; choose another with --port"
    )
    with pytest.raises(MonitorError, match=sentence):
        other.start()
    with pytest.raises(MonitorError, match=sentence):
        serve(other.settings, on_ready=print)
    other.stop()


ADDRESSES = {
    "a port beyond all": SandboxSettings(port=65536),
    "an address of another machine": SandboxSettings(host="192.0.2.1"),
    "no address": SandboxSettings(host="256.256.256.256"),
}


@pytest.mark.parametrize("settings", ADDRESSES.values(), ids=ADDRESSES)
def test_an_unusable_address_is_reported_in_one_sentence(settings):
    with pytest.raises(MonitorError, match=rf"^the sandbox can't listen on {settings.host} port {settings.port}: \w"):
        Sandbox(settings).start()


def test_the_server_listens_on_ipv6():
    with Sandbox(SandboxSettings(host="::1")) as sandbox:
        assert sandbox.url == f"http://[::1]:{sandbox.port}"
        assert get(sandbox.url + URL, headers=HEADERS).status_code == 400


def test_answers_are_sent_without_nagle_delay(own):
    """With Nagle's algorithm the second packet of each answer waits 40 ms for the client's delayed ACK."""
    own.start()
    with httpx.Client(base_url=own.url, trust_env=False) as client:
        client.get(URL)
        (connection,) = own._state.connections.values()
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_many_threads_lose_no_item_and_no_count(own):
    own.start()
    own.add_fault(path="/engine", status=503, count=25)

    def work(_):
        (made,) = own.create_items(1, status="QUEUED")
        own.set_status(made, "COMPLETED")
        with httpx.Client(base_url=own.url, headers=HEADERS, trust_env=False) as client:
            return [client.get(f"/engine/v2/items/{made}").status_code for _ in range(10)]

    with ThreadPoolExecutor(8) as threads:
        statuses = [status for several in threads.map(work, range(16)) for status in several]
    assert (statuses.count(503), statuses.count(200), len(statuses)) == (25, 135, 160)
    assert own.stats()["items"] == 16
    assert (own.requests(), own.requests("503"), own.requests("200")) == (160, 25, 135)


@pytest.fixture(params=[SERVE])
def served(request):
    """`serve` in its own process, and its URL."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", request.param],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def _complaints(process):
    """Its stderr, once it has ended. If it does not end, also the stacks of its threads, which SIGABRT prints."""
    try:
        _, complaints = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        _, complaints = process.communicate()
    return complaints


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_serving_in_the_foreground_ends_cleanly_with_a_signal(served, number, code):
    process, url = served
    assert get(url + URL).status_code == 401
    process.send_signal(number)
    assert (_complaints(process), process.returncode) == ("", code)
    with pytest.raises(httpx.ConnectError):
        get(url)


@pytest.mark.parametrize("served", [SERVE_WITH_SIGNALS_ELSEWHERE], indirect=True)
def test_a_signal_that_does_not_interrupt_the_main_thread_ends_the_server(served):
    process, _ = served
    process.send_signal(signal.SIGINT)
    assert (_complaints(process), process.returncode) == ("", 0)


def test_a_signal_does_not_wait_for_calls_in_flight(served):
    process, url = served
    httpx.post(f"{url}/_sandbox/faults", content=json.dumps({"delay_s": 3600}), trust_env=False)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while get(f"{url}/_sandbox/stats").json()["max_in_flight"] == 0:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        complaints = _complaints(process)
    assert complaints == ""
