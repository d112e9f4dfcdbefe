"""Turns of one process at SQLite's write lock: first come, first served, and renewals of leases before all others.

SQLite itself lets writers poll, so that one of many may never get it; a lease that is not renewed in time is lost.
Other processes are still waited for by SQLite's own busy timeout.
"""

import threading
from collections import deque


class Turn:
    """The right to write, until it is released; releasing it again does nothing."""

    def __init__(self, turns: "WriteTurns") -> None:
        self._turns: WriteTurns | None = turns

    def release(self) -> None:
        """Lets the next one write. From any thread."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns._pass_on()  # noqa: SLF001  # one mechanism in two classes


class WriteTurns:
    """Who of the threads of this process writes one database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting = deque[threading.Event]()

    def take(self, *, urgent: bool, timeout_s: float) -> Turn | None:
        """Waits for a turn, at most `timeout_s`; None: the wait was too long, and SQLite decides."""
        called = threading.Event()
        with self._lock:
            if not self._taken:
                self._taken = True
                return Turn(self)
            if urgent:
                self._waiting.appendleft(called)
            else:
                self._waiting.append(called)
        if called.wait(timeout_s):
            return Turn(self)
        with self._lock:
            if called.is_set():  # just now
                return Turn(self)
            self._waiting.remove(called)
        return None

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False
