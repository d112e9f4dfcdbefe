"""Notifies systemd of the daemon's status by sd_notify(3), and pings its watchdog. Without systemd it does nothing.

We don't use a package: those that are maintained support neither RELOADING nor EXTEND_TIMEOUT_USEC.
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from time import monotonic
from typing import Self

import structlog

from monitor.web.state import DaemonState


class SystemdNotifier:
    """Sends notifications to the service manager's Unix datagram socket (`@…`: an abstract one; None: nowhere).

    Without a ping for `watchdog_s` seconds (> 0), systemd kills the process; None: no watchdog.
    """

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        self._address, self.watchdog_s = address, watchdog_s
        self._failure_logged = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, pid: int | None = None) -> Self:
        """The notifier of `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`; `pid` is this process by default."""
        address = environ.get("NOTIFY_SOCKET", "")
        limit = environ.get("WATCHDOG_USEC", "")
        for_this_process = environ.get("WATCHDOG_PID") in {None, str(os.getpid() if pid is None else pid)}
        enabled = for_this_process and limit.isascii() and limit.isdigit() and int(limit) > 0
        return cls(address if address[:1] in {"/", "@"} else None, watchdog_s=int(limit) / 1e6 if enabled else None)

    def ready(self, status: str) -> None:
        """The start or a reload has finished."""
        self._send("READY=1", f"STATUS={status}")

    def starting(self, status: str, *, extend_s: float) -> None:
        """Asks for so many more seconds to start, from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(extend_s * 1e6)}", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The process is ending."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Sets the line that `systemctl status` shows."""
        self._send(f"STATUS={status}")

    def ping_watchdog(self) -> None:
        """Resets the watchdog's timeout."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(0)  # a manager that does not read must not block the daemon
                sock.connect(address)
                sock.send("\n".join(line.replace("\n", " ") for line in lines).encode())
        except OSError as error:
            if not self._failure_logged:
                structlog.get_logger().warning("sd_notify_failed", reason=error.strerror)
            self._failure_logged = True


HEARTBEAT_INTERVAL_S = 1.0
STUCK_AFTER_S = 600.0
"""The pool is stuck if no worker thread gets free for this long. Shorter waits are normal while the database is down:
each thread waits up to 30 s, and others queue."""


async def record_heartbeat(state: DaemonState) -> None:
    """Records forever that the event loop runs."""
    while True:
        state.heartbeat_s = monotonic()
        await asyncio.sleep(HEARTBEAT_INTERVAL_S)


async def run_watchdog(notifier: SystemdNotifier, *, stuck_s: float = STUCK_AFTER_S) -> None:
    """Pings the watchdog forever, as long as the event loop runs and a worker thread was free in the last `stuck_s`."""
    if notifier.watchdog_s is None:
        return
    half_s = notifier.watchdog_s / 2
    loop = asyncio.get_running_loop()
    asked_s, probe = monotonic(), loop.run_in_executor(None, monotonic)
    while True:
        next_s = monotonic() + half_s
        if (waited_s := monotonic() - asked_s) < stuck_s:
            notifier.ping_watchdog()
        else:
            structlog.get_logger().error("worker_threads_stuck", blocked_s=round(waited_s, 1))
        await asyncio.wait((probe,), timeout=half_s)
        if probe.done():
            probe.result()
            await asyncio.sleep(max(0.0, next_s - monotonic()))
            asked_s, probe = monotonic(), loop.run_in_executor(None, monotonic)
