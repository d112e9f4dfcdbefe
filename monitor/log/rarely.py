"""Warnings that many runs and many attempts would give at once: told when they are news, and then once a minute."""

from dataclasses import dataclass
from threading import Lock
from time import monotonic

from monitor.log.plainly import structlog

__all__ = ["REMIND_S", "News", "warn_rarely"]

REMIND_S = 60.0


@dataclass(slots=True)
class _Told:
    at_s: float
    untold: int = 0


class News:
    """What was told when. Any thread may ask."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], _Told] = {}
        self._lock = Lock()

    def stands_for(self, event: str, reason: str, *, now_s: float) -> int | None:
        """For how many of its kind one stands, itself included; None for one that is not to be told now.

        Args:
            event: its kind, together with the reason.
            reason: one of a few sentences; each is kept.
            now_s: of a clock that never goes back.
        """
        with self._lock:
            before = self._told.get((event, reason))
            if before is not None and now_s - before.at_s < REMIND_S:
                before.untold += 1
                return None
            self._told[event, reason] = _Told(at_s=now_s)
            return 1 + (before.untold if before is not None else 0)


_news = News()


def warn_rarely(event: str, *, reason: str, **facts: object) -> None:
    """Logs a warning, unless this process told the same within the last minute; `times` counts those it stands for."""
    times = _news.stands_for(event, reason, now_s=monotonic())
    if times is not None:
        structlog.get_logger().warning(event, reason=reason, times=times, **facts)
