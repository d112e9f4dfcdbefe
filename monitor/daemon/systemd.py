"""Tells systemd, or whatever stands in for it, how the daemon is: the protocol of sd_notify(3). Without one, nothing.

A module of our own: it is a datagram with a few lines, and the packages for it that are kept up know neither reloads
nor more time to start.
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
    """Whoever started the process and wants to hear of it.

    Args:
        address: of its Unix datagram socket, `@…` for an abstract one; None when nobody listens.
        watchdog_s: seconds (> 0) without a sign of life after which it ends the process; None: it does not.
    """

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        self._address, self.watchdog_s = address, watchdog_s
        self._failure_logged = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, pid: int | None = None) -> Self:
        """The one that `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` tell of.

        Args:
            environ: the environment.
            pid: this process; None asks the system.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        limit = environ.get("WATCHDOG_USEC", "")
        for_this_process = environ.get("WATCHDOG_PID") in {None, str(os.getpid() if pid is None else pid)}
        enabled = for_this_process and limit.isascii() and limit.isdigit() and int(limit) > 0
        return cls(address if address[:1] in {"/", "@"} else None, watchdog_s=int(limit) / 1e6 if enabled else None)

    def ready(self, status: str) -> None:
        """The start, or a reload, is done."""
        self._send("READY=1", f"STATUS={status}")

    def starting(self, status: str, *, extend_s: float) -> None:
        """The start takes longer: so many more seconds from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(extend_s * 1e6)}", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The process is about to end."""
        self._send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """One line for people."""
        self._send(f"STATUS={status}")

    def ping_watchdog(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(0)  # one that does not read must not hold the daemon up
                sock.connect(address)
                sock.send("\n".join(line.replace("\n", " ") for line in lines).encode())
        except OSError as error:
            if not self._failure_logged:
                structlog.get_logger().warning("sd_notify_failed", reason=error.strerror)
            self._failure_logged = True


HEARTBEAT_INTERVAL_S = 1.0
STUCK_AFTER_S = 600.0
"""Threads for our own database wait for one that is away, up to half a minute each, and others queue for them: that
passes. Whoever gets no thread for so long never gets one."""


async def record_heartbeat(state: DaemonState) -> None:
    """Notes that the loop turns, without end."""
    while True:
        state.heartbeat_s = monotonic()
        await asyncio.sleep(HEARTBEAT_INTERVAL_S)


async def run_watchdog(notifier: SystemdNotifier, *, stuck_s: float = STUCK_AFTER_S) -> None:
    """Gives signs of life while the loop turns and threads for our own database come free, without end.

    Args:
        notifier: who is told.
        stuck_s: a thread that could not be had for so many seconds (> 0) will not be had at all.
    """
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
