"""Files that commands write: in one step, with one mode, and never in place of what is no file."""

import os
import tempfile
from pathlib import Path

from monitor.errors import ConfigError, MonitorError

_MAX_SHOWN = 200
_MAX_PREFIX = 50
"""Characters of a name in that of its temporary file, which is longer: a name may have 255 bytes."""


def require_writable_name(option: str, path: Path) -> None:
    """Raises ConfigError if a file can't have this name: it is a folder, a device, or in a folder that is not there."""
    try:
        problem = _problem(option, path)
    except OSError as error:  # a name that is too long, or a folder that can't be entered
        problem = f"{option}: {_cut(path)} can't be used ({error.strerror}): name another file"
    if problem is not None:
        raise ConfigError([problem])


def _problem(option: str, path: Path) -> str | None:
    if path.is_dir():
        return f"{option}: {_cut(path)} is a folder: name a file in it"
    if path.exists() and not path.is_file():
        return f"{option}: {_cut(path)} is no regular file: name another one, or leave {option} out"
    if not path.parent.is_dir():
        return f"{option}: there is no folder {_cut(path.parent)}: make it first"
    return None


def _cut(path: Path) -> str:
    text = str(path)
    return ascii(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


def write_file(path: Path, text: str, *, mode: int, force: bool, remedy: str) -> None:
    """Writes a file in UTF-8, in one step; it never has another mode than this. `force`: also in place of another.

    Raises MonitorError, with `remedy`, if it can't be written, or exists without `force`.
    """
    try:
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:_MAX_PREFIX]}."
        )  # only its owner can read it
    except OSError as error:
        raise _unwritable(path, error, remedy) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(mode)
        if force:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename, it never replaces a file that was just created
    except OSError as error:
        raise _unwritable(path, error, remedy) from error
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError, remedy: str) -> MonitorError:
    return MonitorError(f"{path} can't be written ({error.strerror}): {remedy}")
