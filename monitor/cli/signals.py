"""How commands are told to end, and the last resort: what that leaves behind is what a kill would have left."""

import asyncio
import os
import signal
import threading

WITHIN_S = 9.5
"""Seconds after a signal at which the process ends, whatever a database or a receiver keeps waiting."""


def end_soon(sign: signal.Signals, *, within_s: float = WITHIN_S) -> None:
    """Ends the process by itself once so many seconds (> 0) have passed, with 128 plus the signal's number.

    Threads that wait for a locked or silent database can't be cancelled, and Python waits for them at its exit.
    """
    last_resort = threading.Timer(within_s, os._exit, (128 + sign,))
    last_resort.daemon = True
    last_resort.start()


class Interruption:
    """SIGINT or SIGTERM while a command works: the first one is heeded, a second one ends the process the hard way."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        """Set by the first signal."""
        self.signal: signal.Signals | None = None

    def heed(self) -> None:
        """Takes signals from now on; called in the loop that works."""
        loop = asyncio.get_running_loop()

        def stop(sign: signal.Signals) -> None:
            self.signal = sign
            self.event.set()
            end_soon(sign)
            loop.remove_signal_handler(sign)

        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, stop, sign)
