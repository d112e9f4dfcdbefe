"""What a process brings along whatever it does: its clock, its name, and its database. Loads no part of a run."""

import os
import socket
from datetime import UTC, datetime

from sqlalchemy import Engine

from monitor.config import Config
from monitor.store.schema import ensure

__all__ = ["holder", "open_store", "utcnow"]


def utcnow() -> datetime:
    """The clock of everything that is stored."""
    return datetime.now(UTC)


def holder() -> str:
    """Who this process is in leases and claims: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_store(config: Config) -> Engine:
    """Opens the configured database at this program's schema; an embedded SQLite is brought there first.

    Raises:
        SchemaError: the schema is newer, or a server's is older.
        StoreError: the database can't be used.
    """
    return ensure(config.database.reveal())
