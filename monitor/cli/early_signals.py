"""SIGTERM and SIGINT before a command handles them: they end the process at once, with 128 plus their number.

A container runs the command as process 1, for which the kernel drops a signal that has no handler. So the first handler
comes before the imports. Nothing is half done in this window that a kill would not leave as well.
"""

import os
import signal
import threading
from types import FrameType


def install(*, replacing: object = None) -> None:
    """Ends the process at SIGTERM and, until `imports_done`, at SIGINT; an ignored signal stays ignored.

    A thread does it, since Python calls a handler only between two steps of the main thread, which may wait in a
    library for a database or a name server.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(signum) in {usual, replacing}:
            signal.signal(signum, end)
    threading.Thread(target=_end_at_signal, args=(reader,), name="early-signals", daemon=True).start()


def imports_done() -> None:
    """SIGINT is Python's KeyboardInterrupt again, which asyncio and typer handle; no-op without `install`."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end(signum: int, _frame: FrameType | None = None) -> None:
    """Ends the process now. What is left is what a kill leaves."""
    os._exit(128 + signum)


def _end_at_signal(reader: int) -> None:
    """Reads the number of each signal. Other handlers than `end`, such as asyncio's, do their own work."""
    while number := os.read(reader, 1):
        if number[0] in signal.valid_signals() and signal.getsignal(number[0]) is end:
            end(number[0], None)
