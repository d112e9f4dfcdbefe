"""Transactions that others wait for must not outlive a process that was stopped in them, or a machine that is gone.

It has PostgreSQL end sessions; SQLite's locks go with their process, and only the user can end one that is stopped.
"""

from sqlalchemy import Connection, func, select

__all__ = ["IDLE", "end_when_idle"]

IDLE = "30s"
"""As long as a lease."""


def end_when_idle(conn: Connection) -> None:
    """Has the server roll this transaction back, and end its session, once nothing was asked in it for 30 s."""
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.set_config("idle_in_transaction_session_timeout", IDLE, True)))  # noqa: FBT003  # its third argument: for this transaction alone
