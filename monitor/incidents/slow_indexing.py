"""The cause `indexing_slow`: uploads that take longer to be indexed than the target's `slow_after`.

It is a plain threshold over the last hour. Promises over weeks are objectives, and `slo_burn` is about these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Connection

from monitor.incidents import store
from monitor.incidents.observations import Observation
from monitor.incidents.rulebook import Rule
from monitor.model import Cause, Evidence
from monitor.model.durations import format_duration
from monitor.rollups.bounds import SLOTS, slot_start
from monitor.rollups.indexing_queries import Uploads, indexing_counts

_KEY = (Cause.INDEXING_SLOW, "")
_SHARE, _LEAST = 0.05, 2
"""Late uploads that are evidence: a share of those that should be indexed by now, and a minimum."""


def are_late(late: int, due: int) -> bool:
    """Whether so many late uploads among those due are evidence: at least two, and more than 5%.

    More than 5% means that the p95 of the time to indexed is over the threshold.
    """
    return late >= _LEAST and late > _SHARE * due


class SlowIndexing(msgspec.Struct, frozen=True, kw_only=True):
    """Reads the uploads of the rule's window that should be indexed by now. Failed ones have causes of their own."""

    slow_after: timedelta | None
    """None: nothing is slow."""

    def observe(
        self, conn: Connection, *, target: str, rules: Mapping[Cause, Rule], now: datetime
    ) -> Sequence[Observation]:
        """What this run and those before it say; nothing without `slow_after`."""
        if self.slow_after is None:
            return ()
        rule = rules[Cause.INDEXING_SLOW]
        at_least = max(rule.of, rule.resolve_after)
        since = now - rule.window
        found = store.evidence_points(conn, target=target, keys=[_KEY], since=since, at_least=at_least)[_KEY]
        if not found or found[0].at != now:
            return (Observation(cause=Cause.INDEXING_SLOW),)  # this run could not look
        evidence = self._evidence(conn, target, since, now)
        newest = replace(found[0], evidence=evidence is not None)
        return (Observation(cause=Cause.INDEXING_SLOW, points=(newest, *found[1:]), evidence=evidence),)

    def _evidence(self, conn: Connection, target: str, since: datetime, now: datetime) -> Evidence | None:
        within = self.slow_after or timedelta(0)
        # what was uploaded later than this is not due
        start = slot_start(since - within, SLOTS[0])
        uploads = Uploads(target=target, since=start, until=now, within=within, now=now, with_failed=False)
        [counts] = indexing_counts(conn, [uploads])
        due, good = sum(each.due for each in counts), sum(each.good for each in counts)
        if not are_late(due - good, due):
            return None
        words = format_duration(within)
        breakdown = {f"over {words}": due - good, f"within {words}": good}
        return Evidence(cause=Cause.INDEXING_SLOW, count=due - good, breakdown=breakdown)
