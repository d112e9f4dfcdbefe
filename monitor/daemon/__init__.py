"""The daemon: runs targets on their schedules and delivers notifications, in one process, until a signal."""

from monitor.daemon.service import DRAIN_S, Daemon

__all__ = ["DRAIN_S", "Daemon"]
