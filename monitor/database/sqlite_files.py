"""Opens a SQLite file read-only: only what was committed is read, and nothing of ours is left beside the file.

SQLite alone breaks both rules for a reader. In WAL mode it creates `-wal` and `-shm` if they are missing, and files
that belong to the reader lock the writer out. `immutable=1` creates nothing, but it passes over journal and WAL. So
what lies beside the file decides, by its resolved path, as SQLite looks for it:

- not in WAL mode: `mode=ro`. SQLite locks the file, and refuses it if its journal is hot.
- WAL mode, nothing beside it: `immutable=1`; `unchanged` says afterwards whether somebody wrote meanwhile.
- WAL mode, `-wal` and `-shm` beside it: `mode=ro`. Both exist, so SQLite creates neither.
- WAL mode, anything else: a private copy, as a crash, a backup or a moved file leaves it.
"""

import errno
import os
import shutil
import sqlite3
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

JOURNAL, WAL, SHM = "-journal", "-wal", "-shm"
_HEADER_SIZE = 100
_WAL_VERSIONS = b"\x02\x02"
"""Bytes 18 and 19 of the header of a file in WAL mode (sqlite.org/fileformat2.html)."""
_SHARED_START, _SHARED_LENGTH = 0x40000002, 510
"""The bytes that a reader locks (SHARED_FIRST and SHARED_SIZE in sqlite.org/src/file/src/os.h)."""
_PAUSE_S = 0.02
_COPY_SIZE = 1 << 20

_Inode = tuple[int, int]


@dataclass(slots=True)
class _OpenFile:
    """A file on which this process has connections."""

    users: int = 0
    descriptors: list[int] = field(default_factory=list)
    """Ours, to read its header; closed after the last connection."""
    opening: threading.Lock = field(default_factory=threading.Lock)
    """One thread at a time holds the lock of the descriptor."""


_files: dict[_Inode, _OpenFile] = {}
_files_lock = threading.Lock()


class SqliteConnection(sqlite3.Connection):
    """A connection that is counted, so that no descriptor of its file is closed before it.

    When a process closes any descriptor of a file, it loses all POSIX locks on that file, also those of SQLite's
    connections in other threads. Every connection of this program is therefore one of these.
    """

    _inode: _Inode | None = None
    _on_close: tuple[Callable[[], object], ...] = ()
    reads_snapshot = False
    """Whether a read transaction sees one moment without blocking a writer."""
    unchanged: Callable[[], bool] = staticmethod(lambda: True)
    """Whether all that was read is of one moment. Only an `immutable` connection can say no."""

    @property
    def inode(self) -> _Inode | None:
        """Device and number of the file for which the connection is counted."""
        return self._inode

    def count_for(self, inode: _Inode) -> None:
        """Counts the connection as a user of a file until it is closed."""
        _use(inode)
        self._inode = inode

    def before_release(self, *actions: Callable[[], object]) -> None:
        """Adds what is done when the connection is closed."""
        self._on_close += actions

    def close(self) -> None:
        """Closes it, and the file's descriptor if it was the last connection."""
        super().close()
        actions, self._on_close = self._on_close, ()
        for action in actions:
            action()
        inode, self._inode = self._inode, None
        if inode is not None:
            _release(inode)


def open_file(uri: str, path: Path, **options: Any) -> SqliteConnection:  # noqa: ANN401  # handed on
    """A counted connection by a `file:` URI, which names `path`. Raises sqlite3.Error."""
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, factory=SqliteConnection, **options)
    with suppress(OSError):
        connection.count_for(_inode(os.stat(path)))  # noqa: PTH116  # as `os.open` beside it
    return connection


def open_read_only(path: Path, *, busy_timeout_s: float) -> SqliteConnection:
    """Opens an existing SQLite file read-only, or raises sqlite3.Error. Other text than UTF-8 has lone surrogates.

    It waits at most `busy_timeout_s` (≥ 0) for a writer.
    """
    with _as_sqlite_errors():
        real = Path(os.path.realpath(path))
        with _held(real) as (inode, file), file.opening:
            connection = _open(real, file.descriptors[0], busy_timeout_s)
            connection.count_for(inode)
            return connection


def _open(real: Path, descriptor: int, busy_timeout_s: float) -> SqliteConnection:
    ends_s = time.monotonic() + busy_timeout_s
    while True:
        if not _is_wal(descriptor):
            return _connect(real, "mode=ro", busy_timeout_s)
        # while a reader's lock is held, the last writer that closes does not remove -wal and -shm
        with _shared_lock(descriptor, ends_s):
            beside = _beside(real)
            if {WAL, SHM} <= beside:
                connection = _connect(real, "mode=ro", busy_timeout_s)
                connection.reads_snapshot = True
                return connection
            if not beside - {SHM}:
                return _open_immutable(real, descriptor, busy_timeout_s)
            copied = _open_copy(real, descriptor, beside)
            if copied is not None:
                return copied
        if time.monotonic() >= ends_s:
            raise _error("database is locked", sqlite3.SQLITE_BUSY)
        time.sleep(_PAUSE_S)


def _is_wal(descriptor: int) -> bool:
    return os.pread(descriptor, _HEADER_SIZE, 0)[18:20] == _WAL_VERSIONS


def _beside(real: Path) -> set[str]:
    return {suffix for suffix in (JOURNAL, WAL, SHM) if os.path.lexists(f"{real}{suffix}")}


def _connect(path: Path, query: str, busy_timeout_s: float) -> SqliteConnection:
    # not Path.as_uri: a path that is no UTF-8 stays as it is
    uri = f"file:{quote(os.fsencode(path))}?{query}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, factory=SqliteConnection
    )
    connection.text_factory = _decode_text
    try:
        # the first read opens the file, not connect
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _decode_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _open_immutable(real: Path, descriptor: int, busy_timeout_s: float) -> SqliteConnection:
    before = _fingerprint(real, descriptor)
    connection = _connect(real, "mode=ro&immutable=1", busy_timeout_s)
    connection.unchanged = lambda: _is_same(real, descriptor, before)
    return connection


def _is_same(real: Path, descriptor: int, before: object) -> bool:
    try:
        return not _beside(real) - {SHM} and _fingerprint(real, descriptor) == before
    except OSError:
        return False


def _fingerprint(real: Path, descriptor: int) -> object:
    """What changes when a writer changes the file, once the file's clock has ticked since its last change."""
    found = real.stat()
    if 0 <= time.time_ns() - found.st_mtime_ns < _PAUSE_S * 1e9:
        time.sleep(_PAUSE_S)
        found = real.stat()
    return _inode(found), found.st_size, found.st_mtime_ns, os.pread(descriptor, _HEADER_SIZE, 0)


def _open_copy(real: Path, descriptor: int, beside: set[str]) -> SqliteConnection | None:
    """A copy of the file and its WAL in a private folder; None if somebody wrote meanwhile.

    Without `-shm` no process has a WAL file open, except one in exclusive mode, which holds a lock.
    """
    if JOURNAL in beside and _is_hot(Path(f"{real}{JOURNAL}")):
        raise _error("a hot journal", sqlite3.SQLITE_READONLY_ROLLBACK)
    wal = Path(f"{real}{WAL}")
    try:
        folder = Path(tempfile.mkdtemp(prefix="ingestion-monitor-"))
    except OSError as error:
        raise _error("no temporary folder", sqlite3.SQLITE_FULL) from error
    try:
        before = _fingerprint(real, descriptor), _stat(wal)
        copy = folder / "copy.db"
        _copy(descriptor, copy)
        if WAL in beside:
            shutil.copyfile(wal, f"{copy}{WAL}")
        if _beside(real) != beside or (_fingerprint(real, descriptor), _stat(wal)) != before:
            shutil.rmtree(folder)
            return None
        connection = _connect(copy, "mode=rw", 0)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    connection.reads_snapshot = True
    connection.before_release(lambda: shutil.rmtree(folder, ignore_errors=True))
    return connection


def _is_hot(journal: Path) -> bool:
    """Whether a journal has a header that is not zeroed, so that its transaction was cut off."""
    with journal.open("rb") as opened:
        return opened.read(1) not in {b"", b"\x00"}


def _stat(path: Path) -> object:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _inode(found), found.st_size, found.st_mtime_ns


def _copy(descriptor: int, target: Path) -> None:
    # by the descriptor that is held: to open and close another would drop locks
    position = 0
    with target.open("wb") as copy:
        while block := os.pread(descriptor, _COPY_SIZE, position):
            copy.write(block)
            position += len(block)


@contextmanager
def _held(real: Path) -> Iterator[tuple[_Inode, _OpenFile]]:
    """The file with a descriptor, which stays open as long as a connection needs it."""
    inode = _inode(real.stat())
    file = _use(inode)
    try:
        if not file.descriptors:
            descriptor = _open_descriptor(real)
            opened = _inode(os.fstat(descriptor))
            if opened != inode:  # the file was replaced
                _release(inode)
                inode, file = opened, _use(opened)
            file.descriptors.append(descriptor)
        yield inode, file
    finally:
        _release(inode)


def _open_descriptor(real: Path) -> int:
    # not blocking: a named pipe would wait for its writer
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _error("not a file", sqlite3.SQLITE_IOERR)
    return descriptor


def _use(inode: _Inode) -> _OpenFile:
    with _files_lock:
        file = _files.setdefault(inode, _OpenFile())
        file.users += 1
        return file


def _release(inode: _Inode) -> None:
    with _files_lock:
        file = _files[inode]
        file.users -= 1
        if file.users == 0:
            del _files[inode]
            for descriptor in file.descriptors:
                os.close(descriptor)


def _inode(found: os.stat_result) -> _Inode:
    return found.st_dev, found.st_ino


@contextmanager
def _shared_lock(descriptor: int, ends_s: float) -> Iterator[None]:
    """A reader's lock as SQLite takes it, on our descriptor alone; nothing where the system has no such locks.

    Raises sqlite3.OperationalError (busy) if a writer holds the file until then.
    """
    while True:
        refused = _set_lock(descriptor, lock=True)
        if not refused:
            break
        if time.monotonic() >= ends_s:
            raise _error("database is locked", sqlite3.SQLITE_BUSY)
        time.sleep(_PAUSE_S)
    try:
        yield
    finally:
        _set_lock(descriptor, lock=False)


def _set_lock(descriptor: int, *, lock: bool) -> bool:
    """Sets or removes the lock; whether a writer's lock refused it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    command = getattr(fcntl, "F_OFD_SETLK", None)
    if command is None:  # not on Linux
        return False
    kind = fcntl.F_RDLCK if lock else fcntl.F_UNLCK
    request = struct.pack("hhqqi4x", kind, os.SEEK_SET, _SHARED_START, _SHARED_LENGTH, 0)
    try:
        fcntl.fcntl(descriptor, command, request)
    except OSError as error:
        # other errors: a file system without such locks
        return error.errno in {errno.EAGAIN, errno.EACCES}
    return False


@contextmanager
def _as_sqlite_errors() -> Iterator[None]:
    """Turns errors of the operating system into the error that SQLite has for them."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            code = sqlite3.SQLITE_FULL
        elif error.errno in {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}:
            code = sqlite3.SQLITE_CANTOPEN
        else:
            code = sqlite3.SQLITE_IOERR
        raise _error(str(error.strerror), code) from error


def _error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error
