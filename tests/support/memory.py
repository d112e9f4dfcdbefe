"""Where tests keep what they throw away: in memory where there is room, as a disk would be waited for at each fsync."""

import os
import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # folders with names of their own are made in it
ROOM_BYTES = 2 * 1024**3


def folder_in_memory() -> Path | None:
    """A folder that never waits for a disk; None where there is none with room: containers often have 64 MB there."""
    if not os.access(SHARED_MEMORY, os.W_OK | os.X_OK) or shutil.disk_usage(SHARED_MEMORY).free < ROOM_BYTES:
        return None
    return SHARED_MEMORY
