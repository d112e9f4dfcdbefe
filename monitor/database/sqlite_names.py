"""Finds the name of a SQLite file beside which its writers have their journal and WAL. It opens nothing.

SQLite looks for both beside the name that it opens. A hard link, or a mount of the file alone (as containers have it),
gives a file a second name: beside that, half a transaction or an old state would look like the whole truth.
"""

import os
import re
import sqlite3
import stat
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT_POINT_FIELD = 4
_OCTAL = re.compile(rb"\\([0-7]{3})")
_SUFFIXES = ("-journal", "-wal")


def find_name_with_journals(path: Path) -> Path:
    """The name of the file to open. What can't be followed, or is no file, is returned: to open it says why.

    Raises:
        sqlite3.OperationalError: with the code SQLITE_READONLY_DBMOVED: another name, which may have a journal or a
            WAL beside it, is not known.
    """
    real = Path(os.path.realpath(path))
    try:
        found = real.stat()
        if _has_journal(real) or not stat.S_ISREG(found.st_mode):
            return real
        if found.st_nlink > 1:
            names = [Path(each) for each in os.scandir(real.parent) if each.inode() == found.st_ino]
            with_journal = [name for name in names if _has_journal(name)]
            if with_journal:
                return with_journal[0]
            known = len(names) == found.st_nlink
        else:
            known = not _is_mounted_alone(real)
    except OSError:
        return path
    if known:
        return real
    error = sqlite3.OperationalError("the file has another name")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
    raise error


def _has_journal(name: Path) -> bool:
    return any(os.path.lexists(f"{name}{suffix}") for suffix in _SUFFIXES)


def _is_mounted_alone(real: Path) -> bool:
    """Whether the file itself is a mount point; False where the system does not say."""
    try:
        mounts = _MOUNTS.read_bytes().splitlines()
    except OSError:  # not on Linux
        return False
    points = (line.split(b" ")[_MOUNT_POINT_FIELD] for line in mounts if line.count(b" ") > _MOUNT_POINT_FIELD)
    return os.fsencode(real) in {_OCTAL.sub(lambda code: bytes([int(code[1], 8)]), point) for point in points}
