"""The daemon: runs every target when it is due and delivers what is in the outbox, in one process, until a signal."""

from monitor.daemon.service import DRAIN_S, Daemon

__all__ = ["DRAIN_S", "Daemon"]
