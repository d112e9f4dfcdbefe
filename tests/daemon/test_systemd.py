"""Notifications to systemd over real sockets: by the module, and by the daemon from start to end."""

import asyncio
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs
from support.observed import until

from monitor.config import load_config
from monitor.daemon import Daemon
from monitor.daemon.service import WORKER_THREADS
from monitor.daemon.systemd import SystemdNotifier, run_watchdog
from monitor.database.engine import connect
from monitor.database.retry import run_with_retry, with_retry
from monitor.errors import StoreUnavailableError
from monitor.threads import run_in_lease_pool


class Systemd:
    """A Unix datagram socket that keeps its messages."""

    def __init__(self, address):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(0.1)
        self.received, self._open = [], True
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        while self._open:
            try:
                self.received.append(self._socket.recv(4096).decode().split("\n"))
            except TimeoutError:
                continue

    def states(self):
        """The received states, without status texts and watchdog messages."""
        return [lines[0] for lines in self.received if not lines[0].startswith(("STATUS=", "WATCHDOG="))]

    def close(self):
        self._open = False
        self._thread.join()
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = f"{os.getpid()}-{time.monotonic_ns()}"
    listening = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@monitor-test-{name}")
    yield listening
    listening.close()


def test_each_state_is_one_sd_notify_datagram(systemd):
    notifier = SystemdNotifier.from_environ({"NOTIFY_SOCKET": systemd.address})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.starting("waiting", extend_s=60)
    notifier.ready("two\nlines")
    notifier.reloading()
    notifier.ping_watchdog()
    notifier.status("fine")
    notifier.stopping("ending")
    until(lambda: len(systemd.received) == 6, "six datagrams")
    reloading = systemd.received.pop(2)
    assert systemd.received == [
        ["EXTEND_TIMEOUT_USEC=60000000", "STATUS=waiting"],
        ["READY=1", "STATUS=two lines"],
        ["WATCHDOG=1"],
        ["STATUS=fine"],
        ["STOPPING=1", "STATUS=ending"],
    ]
    assert reloading[0] == "RELOADING=1"
    name, _, microseconds = reloading[1].partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


WATCHDOGS = [
    ("none", {}, None),
    ("for anybody", {"WATCHDOG_USEC": "60000000"}, 60),
    ("for us", {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60),
    ("for another process", {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
    ("off", {"WATCHDOG_USEC": "0"}, None),
    ("nonsense", {"WATCHDOG_USEC": "soon"}, None),
]


@pytest.mark.parametrize(("environ", "watchdog_s"), [w[1:] for w in WATCHDOGS], ids=[w[0] for w in WATCHDOGS])
def test_the_watchdog_interval_is_read_from_the_environment(environ, watchdog_s):
    assert SystemdNotifier.from_environ(environ, pid=7).watchdog_s == watchdog_s


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}], ids=str)
def test_without_a_socket_nothing_is_sent(environ):
    with capture_logs() as logged:
        SystemdNotifier.from_environ(environ).ready("fine")
    assert logged == []


def test_a_missing_socket_is_logged_once_and_does_no_harm(tmp_path):
    notifier = SystemdNotifier(str(tmp_path / "gone"))
    with capture_logs() as logged:
        notifier.ready("fine")
        notifier.ping_watchdog()
    assert [event["event"] for event in logged] == ["sd_notify_failed"]


@pytest.mark.process
async def test_the_watchdog_is_notified_twice_per_interval_unless_all_threads_are_stuck(systemd):
    loop, gate = asyncio.get_running_loop(), threading.Event()
    watching = asyncio.create_task(run_watchdog(SystemdNotifier(systemd.address, watchdog_s=0.2), stuck_s=0.2))
    await asyncio.to_thread(until, lambda: len(systemd.received) >= 4, "four signs of life")
    with capture_logs() as logged:
        stuck = [loop.run_in_executor(None, gate.wait, 20) for _ in range(64)]
        while not logged:  # noqa: ASYNC110  # a list that structlog fills has no event
            await asyncio.sleep(0.01)
        silent = len(systemd.received)
        await asyncio.sleep(0.3)
        assert len(systemd.received) <= silent + 1, "one may have been on its way"
    gate.set()
    await asyncio.gather(*stuck)
    await asyncio.to_thread(until, lambda: len(systemd.received) > silent + 1, "a sign of life again")
    assert {event["event"] for event in logged} == {"worker_threads_stuck"}
    watching.cancel()


@pytest.mark.process
async def test_the_watchdog_is_notified_and_a_lease_renewed_while_all_threads_wait_for_a_database(systemd, tmp_path):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKER_THREADS))
    ended, waiting = threading.Event(), set()

    def away():
        waiting.add(threading.get_ident())
        raise StoreUnavailableError("away")

    engine = with_retry(connect(f"sqlite:///{tmp_path}/a.db"), should_stop=ended.is_set)
    runs = [asyncio.create_task(asyncio.to_thread(run_with_retry, engine, away)) for _ in range(10 * WORKER_THREADS)]
    while len(waiting) < WORKER_THREADS:  # noqa: ASYNC110  # a thread that begins to wait has no event
        await asyncio.sleep(0.01)
    watching = asyncio.create_task(run_watchdog(SystemdNotifier(systemd.address, watchdog_s=0.2)))
    while len(systemd.received) < 4:  # noqa: ASYNC110  # nor has a list that another thread fills
        await asyncio.sleep(0.01)
    assert await run_in_lease_pool(lambda: "renewed") == "renewed"
    watching.cancel()
    assert not [run for run in runs if run.done()], "all waited meanwhile"
    ended.set()
    assert {type(end) for end in await asyncio.gather(*runs, return_exceptions=True)} == {StoreUnavailableError}
    assert len(waiting) == WORKER_THREADS, "no thread was left over"


async def test_the_daemon_notifies_systemd_of_each_state(small_world, systemd):
    small_world.configure(more='[schedule]\nevery = "1h"\n')
    config = load_config(small_world.config_path, environ={})
    notifier = SystemdNotifier(systemd.address, watchdog_s=1)
    daemon = Daemon(config, on_stop=lambda _: None, notifier=notifier)
    serving = asyncio.create_task(daemon.serve())
    await asyncio.to_thread(until, lambda: systemd.states() == ["READY=1"], "readiness")
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.to_thread(until, lambda: systemd.states() == ["READY=1", "RELOADING=1", "READY=1"], "a reload")
    await asyncio.to_thread(until, lambda: ["WATCHDOG=1"] in systemd.received, "a sign of life")
    last = "STATUS=targets: 1; last run: gloo, complete"
    await asyncio.to_thread(until, lambda: [last] in systemd.received, "the last run")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 143
    await asyncio.to_thread(until, lambda: systemd.states()[3:] == ["STOPPING=1"], "the end")
    assert daemon.state.stopping
    assert daemon.state.started_at <= datetime.now(UTC)


@pytest.mark.process
async def test_the_daemon_extends_its_start_timeout_while_it_waits_for_its_database(small_world, systemd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        small_world.configure(database=f"postgresql://u:p@127.0.0.1:{closed.getsockname()[1]}/monitor")
        config = load_config(small_world.config_path, environ={})
        serving = asyncio.create_task(
            Daemon(config, on_stop=lambda _: None, notifier=SystemdNotifier(systemd.address)).serve()
        )
        await asyncio.to_thread(until, lambda: systemd.received, "word of the wait")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await serving == 143
    assert systemd.received[0][0] == "EXTEND_TIMEOUT_USEC=60000000"
    assert "can't be reached" in systemd.received[0][1]
    assert "READY=1" not in systemd.states()
