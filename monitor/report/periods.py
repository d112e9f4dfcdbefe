"""A period cut into spans of a length that people can name: two minutes, an hour, a day. Pure."""

from datetime import datetime, timedelta

__all__ = ["MARKS", "length", "spans"]

MARKS = 36
"""The most spans that a period is cut into: what a line of 80 characters has room for."""

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_LENGTHS = (
    *(n * _MINUTE for n in (2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 4, 6, 12)),
    *(n * _DAY for n in (1, 2, 3, 5, 7, 10, 14, 30, 60, 90, 120)),
)


def length(period: timedelta) -> timedelta:
    """How long the spans of a period are: the shortest length that makes at most `MARKS` of them."""
    return next((each for each in _LENGTHS if each * MARKS >= period), period / MARKS)


def spans(start: datetime, end: datetime) -> list[datetime]:
    """Where the spans of a period begin and end, oldest first: equally long, but for the first perhaps.

    Args:
        start: aware.
        end: aware, later than `start`.
    """
    step = length(end - start)
    bounds = [end]
    while bounds[-1] - step > start:
        bounds.append(bounds[-1] - step)
    return [start, *reversed(bounds)]
