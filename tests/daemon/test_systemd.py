"""What systemd is told, over real sockets: by the module itself, and by the daemon over its life."""

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

from monitor.config import Config
from monitor.daemon import Daemon
from monitor.daemon.service import THREADS
from monitor.daemon.systemd import Supervisor, feed
from monitor.database.engine import connect
from monitor.database.retry import patient, patiently
from monitor.errors import StoreAwayError
from monitor.threads import renew_aside


class Systemd:
    """A Unix datagram socket that keeps what it was told."""

    def __init__(self, address):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.settimeout(0.1)
        self.told, self._open = [], True
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        while self._open:
            try:
                self.told.append(self._socket.recv(4096).decode().split("\n"))
            except TimeoutError:
                continue

    def states(self):
        """What it was told, but for words for people and signs of life."""
        return [lines[0] for lines in self.told if not lines[0].startswith(("STATUS=", "WATCHDOG="))]

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


def test_each_state_is_one_datagram_of_the_protocol(systemd):
    supervisor = Supervisor.of({"NOTIFY_SOCKET": systemd.address})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    supervisor.starting("waiting", more_s=60)
    supervisor.ready("two\nlines")
    supervisor.reloading()
    supervisor.alive()
    supervisor.status("fine")
    supervisor.stopping("ending")
    until(lambda: len(systemd.told) == 6, "six datagrams")
    reloading = systemd.told.pop(2)
    assert systemd.told == [
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
def test_the_environment_says_whether_there_is_a_watchdog(environ, watchdog_s):
    assert Supervisor.of(environ, pid=7).watchdog_s == watchdog_s


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}], ids=str)
def test_without_a_socket_nothing_is_told_and_nothing_is_wrong(environ):
    with capture_logs() as logged:
        Supervisor.of(environ).ready("fine")
    assert logged == []


def test_a_socket_that_is_gone_is_told_once_and_hurts_nobody(tmp_path):
    supervisor = Supervisor(str(tmp_path / "gone"))
    with capture_logs() as logged:
        supervisor.ready("fine")
        supervisor.alive()
    assert [event["event"] for event in logged] == ["supervisor_not_told"]


async def test_the_watchdog_is_fed_twice_in_its_time_and_not_while_no_thread_can_be_had(systemd):
    loop, gate = asyncio.get_running_loop(), threading.Event()
    feeding = asyncio.create_task(feed(Supervisor(systemd.address, watchdog_s=0.2), stuck_s=0.2))
    await asyncio.to_thread(until, lambda: len(systemd.told) >= 4, "four signs of life")
    with capture_logs() as logged:
        stuck = [loop.run_in_executor(None, gate.wait, 20) for _ in range(64)]
        while not logged:  # noqa: ASYNC110  # a list that structlog fills has no event
            await asyncio.sleep(0.01)
        silent = len(systemd.told)
        await asyncio.sleep(0.3)
        assert len(systemd.told) <= silent + 1, "one may have been on its way"
    gate.set()
    await asyncio.gather(*stuck)
    await asyncio.to_thread(until, lambda: len(systemd.told) > silent + 1, "a sign of life again")
    assert {event["event"] for event in logged} == {"work_stands_still"}
    feeding.cancel()


async def test_the_watchdog_is_fed_and_a_lease_renewed_while_all_threads_wait_for_a_database(systemd, tmp_path):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    ended, waiting = threading.Event(), set()

    def away():
        waiting.add(threading.get_ident())
        raise StoreAwayError("away")

    engine = patient(connect(f"sqlite:///{tmp_path}/a.db"), given_up=ended.is_set)
    runs = [asyncio.create_task(asyncio.to_thread(patiently, engine, away)) for _ in range(10 * THREADS)]
    while len(waiting) < THREADS:  # noqa: ASYNC110  # a thread that begins to wait has no event
        await asyncio.sleep(0.01)
    feeding = asyncio.create_task(feed(Supervisor(systemd.address, watchdog_s=0.2)))
    while len(systemd.told) < 4:  # noqa: ASYNC110  # nor has a list that another thread fills
        await asyncio.sleep(0.01)
    assert await renew_aside(lambda: "renewed") == "renewed"
    feeding.cancel()
    assert not [run for run in runs if run.done()], "all waited meanwhile"
    ended.set()
    assert {type(end) for end in await asyncio.gather(*runs, return_exceptions=True)} == {StoreAwayError}
    assert len(waiting) == THREADS, "no thread was left over"


async def test_over_its_life_the_daemon_tells_each_state(small_world, systemd):
    small_world.configure(more='[schedule]\nevery = "1h"\n')
    config = Config.load(small_world.config_path, environ={})
    supervisor = Supervisor(systemd.address, watchdog_s=1)
    daemon = Daemon(config, on_stop=lambda _: None, supervisor=supervisor)
    serving = asyncio.create_task(daemon.serve())
    await asyncio.to_thread(until, lambda: systemd.states() == ["READY=1"], "readiness")
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.to_thread(until, lambda: systemd.states() == ["READY=1", "RELOADING=1", "READY=1"], "a reload")
    await asyncio.to_thread(until, lambda: ["WATCHDOG=1"] in systemd.told, "a sign of life")
    last = "STATUS=targets: 1; last run: gloo, complete"
    await asyncio.to_thread(until, lambda: [last] in systemd.told, "the last run")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await serving == 143
    await asyncio.to_thread(until, lambda: systemd.states()[3:] == ["STOPPING=1"], "the end")
    assert daemon.standing.stopping
    assert daemon.standing.started_at <= datetime.now(UTC)


async def test_waiting_for_its_database_it_asks_for_more_time(small_world, systemd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        small_world.configure(database=f"postgresql://u:p@127.0.0.1:{closed.getsockname()[1]}/monitor")
        config = Config.load(small_world.config_path, environ={})
        serving = asyncio.create_task(
            Daemon(config, on_stop=lambda _: None, supervisor=Supervisor(systemd.address)).serve()
        )
        await asyncio.to_thread(until, lambda: systemd.told, "word of the wait")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await serving == 143
    assert systemd.told[0][0] == "EXTEND_TIMEOUT_USEC=60000000"
    assert "can't be reached" in systemd.told[0][1]
    assert "READY=1" not in systemd.states()
