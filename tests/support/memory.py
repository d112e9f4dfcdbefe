"""A folder in memory for temporary test data, since each fsync waits for a disk."""

import os
import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # folders with names of their own are made in it
ROOM_BYTES = 2 * 1024**3


def folder_in_memory() -> Path | None:
    """A folder in memory; None if it has too little space, as in containers with 64 MB."""
    if not os.access(SHARED_MEMORY, os.W_OK | os.X_OK) or shutil.disk_usage(SHARED_MEMORY).free < ROOM_BYTES:
        return None
    return SHARED_MEMORY
