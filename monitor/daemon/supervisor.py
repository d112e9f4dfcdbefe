"""Tells systemd, or whatever stands in for it, how the daemon is: the protocol of sd_notify(3). Without one, nothing.

A module of our own: it is a datagram with a few lines, and the packages for it that are kept up know neither reloads
nor more time to start.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Self

import structlog

__all__ = ["Supervisor"]


class Supervisor:
    """Whoever started the process and wants to hear of it.

    Args:
        address: of its Unix datagram socket, `@…` for an abstract one; None when nobody listens.
        watchdog_s: seconds (> 0) without a sign of life after which it ends the process; None: it does not.
    """

    def __init__(self, address: str | None, *, watchdog_s: float | None = None) -> None:
        self._address, self.watchdog_s = address, watchdog_s
        self._complained = False

    @classmethod
    def of(cls, environ: Mapping[str, str], *, pid: int | None = None) -> Self:
        """The one that `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` tell of.

        Args:
            environ: the environment.
            pid: this process; None asks the system.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        limit = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID") in {None, str(os.getpid() if pid is None else pid)}
        watched = ours and limit.isascii() and limit.isdigit() and int(limit) > 0
        return cls(address if address[:1] in {"/", "@"} else None, watchdog_s=int(limit) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """The start, or a reload, is done."""
        self._tell("READY=1", f"STATUS={status}")

    def starting(self, status: str, *, more_s: float) -> None:
        """The start takes longer: so many more seconds from now."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(more_s * 1e6)}", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The process is about to end."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """One line for people."""
        self._tell(f"STATUS={status}")

    def alive(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaking:
                speaking.settimeout(0)  # one that does not read must not hold the daemon up
                speaking.connect(address)
                speaking.send("\n".join(line.replace("\n", " ") for line in lines).encode())
        except OSError as error:
            if not self._complained:
                structlog.get_logger().warning("supervisor_not_told", reason=error.strerror)
            self._complained = True
