"""stdout and stderr that never fail: what can't be written is dropped and counted.

Output is never a precondition of work (ADR 42). A full disk, a closed pipe or a missing stream changes neither a run
nor its delivery; the end of the command and /readyz report what was lost.
"""

import errno
import io
import os
import select
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_ATOMIC_BYTES = 4096
"""A pipe that is ready takes so many bytes without blocking (PIPE_BUF on Linux)."""
LOG_PATIENCE_S = 1.0
"""How long a log line waits for a reader that does not read; the next ones don't wait until it reads again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLoss:
    """What one stream could not write since the start of the process."""

    lines: int
    reason: str
    """The system's words for the last error, such as `No space left on device`."""
    last_at_s: float
    """When it was lost, in seconds since the epoch."""
    reader_left: bool
    """Whether the reader of a pipe has ended: it wanted no more."""


class TolerantFile(io.RawIOBase):
    """Writes to a file descriptor. A write that fails is counted, and looks like one that succeeded.

    With `patience_s`, a pipe whose reader does not read counts as failed after so many seconds; without, a write waits.
    """

    def __init__(self, fd: int, *, name: str, patience_s: float | None = None) -> None:
        super().__init__()
        self.name, self.mode = name, "wb"
        self.loss: OutputLoss | None = None
        self._fd, self._stalled, self._torn = fd, False, False
        mode = os.fstat(fd).st_mode
        may_stall = hasattr(select, "poll") and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))  # no poll on Windows
        self._patience_s = patience_s if may_stall else None

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The file descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._fd)

    def write(self, data: "ReadableBuffer", /) -> int:
        """Writes all of the data, or drops the rest of it; returns its length in both cases."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            if self._torn:  # the next line must not continue half a line
                self._write_some(b"\n")
                self._torn = False
            while rest:
                written = self._write_some(rest)
                self._torn = bytes(rest[written - 1 : written]) != b"\n"
                rest = rest[written:]
        except OSError as error:
            self._count(rest, error)
        else:
            self._torn = False
        return size

    def _write_some(self, data: "memoryview | bytes") -> int:
        if self._patience_s is not None:
            data = data[:_ATOMIC_BYTES]
            self._await_reader(0.0 if self._stalled else self._patience_s)
        while True:
            try:
                return os.write(self._fd, data)
            except BlockingIOError:  # another process has made the shared pipe non-blocking
                self._await_reader(self._patience_s)

    def _await_reader(self, timeout_s: float | None) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        ready = waiting.poll(None if timeout_s is None else timeout_s * 1000)
        self._stalled = not ready
        if self._stalled:
            raise TimeoutError(errno.ETIMEDOUT, "its reader does not read")

    def _count(self, lost: memoryview, error: OSError) -> None:
        before = self.loss.lines if self.loss else 0
        self.loss = OutputLoss(
            lines=before + max(1, bytes(lost).count(b"\n")),
            reason=error.strerror or type(error).__name__,
            last_at_s=time.time(),
            reader_left=error.errno == errno.EPIPE,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """This process's output."""

    stdout: TolerantFile
    stderr: TolerantFile

    def finish(self, code: int, *, lost_code: int) -> int:
        """Writes what is buffered, and says on stderr what was lost; returns the exit code.

        Lost output turns success into `lost_code`, unless the reader left: `… | head` has all that it wanted. A lost
        log never changes the code.
        """
        for stream in (sys.stdout, sys.stderr):
            with suppress(ValueError):  # it was closed
                stream.flush()
        if (log := self.stderr.loss) is not None and not log.reader_left:
            print(f"warning: {log.lines} lines could not be written to stderr ({log.reason})", file=sys.stderr)
        output = self.stdout.loss
        if output is None or output.reader_left:
            return code
        print(f"error: the output could not be written to stdout ({output.reason})", file=sys.stderr)
        sys.stderr.flush()
        return code or lost_code


def log_loss() -> OutputLoss | None:
    """What stderr, and so the log, has lost; None if nothing, or if `install` was not called."""
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return raw.loss if isinstance(raw, TolerantFile) else None


def install() -> Streams:
    """Replaces `sys.stdout` and `sys.stderr`, and opens what the parent process has closed on /dev/null."""
    _open_missing()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # until the end
    streams = Streams(
        stdout=TolerantFile(1, name="<stdout>"), stderr=TolerantFile(2, name="<stderr>", patience_s=LOG_PATIENCE_S)
    )
    sys.stdout = _text(streams.stdout, like=sys.stdout)
    sys.stderr = _text(streams.stderr, like=sys.stderr)
    return streams


def _open_missing() -> None:
    """Otherwise the next file, perhaps the database, would get the number of a standard stream."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one


def _text(raw: TolerantFile, *, like: object) -> io.TextIOWrapper:
    """A text stream with the encoding of the given one. A character that it can't show must not fail the command."""
    encoding = getattr(like, "encoding", None) or "utf-8"
    lines = bool(getattr(like, "line_buffering", True))
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=lines)
