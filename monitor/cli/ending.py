"""The last resort of a command that a signal told to end. What it leaves behind is what a kill would have left."""

import os
import signal
import threading

__all__ = ["WITHIN_S", "end_soon"]

WITHIN_S = 9.5
"""Seconds after a signal at which the process ends, whatever a database or a receiver keeps waiting."""


def end_soon(sign: signal.Signals, *, within_s: float = WITHIN_S) -> None:
    """Ends the process by itself once so many seconds (> 0) have passed, with 128 plus the signal's number.

    Threads that wait for a locked or silent database can't be cancelled, and Python waits for them at its exit.
    """
    last_resort = threading.Timer(within_s, os._exit, (128 + sign,))
    last_resort.daemon = True
    last_resort.start()
