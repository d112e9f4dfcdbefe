"""Files that commands write: in one step, with one mode, and never in place of what is no file."""

import os
import tempfile
from pathlib import Path

from monitor.errors import ConfigError, MonitorError


def require_writable_name(option: str, path: Path) -> None:
    """Raises ConfigError if a file can't have this name: it is a folder, a device, or in a folder that is not there."""
    if path.is_dir():
        raise ConfigError([f"{option}: {str(path)!a} is a folder: name a file in it"])
    if path.exists() and not path.is_file():
        raise ConfigError([f"{option}: {str(path)!a} is no regular file: name another one, or leave {option} out"])
    if not path.parent.is_dir():
        raise ConfigError([f"{option}: there is no folder {str(path.parent)!a}: make it first"])


def write_file(path: Path, text: str, *, mode: int, force: bool, remedy: str) -> None:
    """Writes a file in UTF-8, in one step; it never has another mode than this. `force`: also in place of another.

    Raises MonitorError, with `remedy`, if it can't be written, or exists without `force`.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # only its owner can read it
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
