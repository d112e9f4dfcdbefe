"""How commands are told to end, and the last resort: what that leaves behind is what a kill would have left."""

import asyncio
import os
import signal
import threading

FORCED_EXIT_S = 9.5
"""Seconds after a signal at which the process ends, whatever a database or a receiver keeps waiting."""


def force_exit_after(signum: signal.Signals, *, after_s: float = FORCED_EXIT_S) -> None:
    """Ends the process by itself once so many seconds (> 0) have passed, with 128 plus the signal's number.

    Threads that wait for a locked or silent database can't be cancelled, and Python waits for them at its exit.
    """
    last_resort = threading.Timer(after_s, os._exit, (128 + signum,))
    last_resort.daemon = True
    last_resort.start()


class SignalHandler:
    """SIGINT or SIGTERM while a command works: the first one is heeded, a second one ends the process the hard way."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        """Set by the first signal."""
        self.signal: signal.Signals | None = None

    def install(self) -> None:
        """Takes signals from now on; called in the loop that works."""
        loop = asyncio.get_running_loop()

        def stop(signum: signal.Signals) -> None:
            self.signal = signum
            self.event.set()
            force_exit_after(signum)
            loop.remove_signal_handler(signum)

        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, stop, signum)
