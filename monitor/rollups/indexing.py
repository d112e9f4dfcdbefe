"""Decides whether the time that an upload took to be indexed is known, and what it is. Pure.

The monitor looks once per run. What it finds completed became so at some moment since it last knew otherwise: the
figure is too long by at most that gap.
"""

from datetime import datetime, timedelta

import msgspec

from monitor.model.items import FirstCompletion

_USUAL_GAPS = 3
_SHORTEST_PAUSE = timedelta(minutes=15)


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """How the target was watched before a run."""

    previous_started_at: datetime | None = None
    """Start of the previous run that asked the API; None before the first."""
    usual_gap: timedelta | None = None
    """From the start of the run before that one to its start; None if there are no two."""

    @property
    def longest_gap(self) -> timedelta:
        """A longer time without a look is a pause of the monitor."""
        return max(_SHORTEST_PAUSE, _USUAL_GAPS * (self.usual_gap or timedelta(0)))

    def first_of_hour(self, now: datetime) -> bool:
        """Whether the previous run began in an earlier hour, or there was none: then slots have become old."""
        previous = self.previous_started_at
        return previous is None or previous.replace(minute=0, second=0, microsecond=0) != now.replace(
            minute=0, second=0, microsecond=0
        )


def time_to_indexed(found: FirstCompletion, watch: Watch) -> timedelta | None:
    """How long an upload took until it was first seen completed; None if that is not known.

    It is known if the moment lies in a short gap: after the item was last seen not completed, or after its upload, if
    the previous run began before that. A gap is short up to three usual gaps between runs, at least 15 minutes, or up
    to the time that the item was waited for before the gap.
    """
    took = found.at - found.uploaded_at
    since = _last_otherwise(found, watch)
    if since is None or took < timedelta(0):
        return None
    since = max(since, found.uploaded_at)
    gap, waited = found.at - since, since - found.uploaded_at
    return took if gap <= max(watch.longest_gap, waited) else None


def is_watched(found: FirstCompletion, watch: Watch) -> bool:
    """Whether it is known when the upload was not completed yet, so that `time_to_indexed` may be known."""
    return _last_otherwise(found, watch) is not None


def _last_otherwise(found: FirstCompletion, watch: Watch) -> datetime | None:
    if found.not_completed_at is not None:
        return found.not_completed_at
    new = watch.previous_started_at is not None and found.uploaded_at >= watch.previous_started_at
    return found.uploaded_at if found.upload_known and new else None
