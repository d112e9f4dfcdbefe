"""What one part of a run found out: all of it, or a share. Parts are stored as JSON, and merged in any order. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import msgspec

from monitor.incidents.evidence import EvidenceCollector
from monitor.model import Cause, Reason, RunLimits
from monitor.model.incidents import rank
from monitor.runs.latencies import LatencyHistogram
from monitor.runs.progress import CheckReport


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialReport:
    """How the check of some of the items went so far."""

    tally: EvidenceCollector = field(default_factory=EvidenceCollector)
    histogram: LatencyHistogram = field(default_factory=LatencyHistogram)
    asked: int = 0
    requests: int = 0
    retries: int = 0
    left: bool = False
    """Whether items have no outcome."""
    stopped_by: Cause | None = None
    """The cause that stopped the target."""
    tripped: bool = False
    """Whether nothing but the circuit breaker stopped it."""
    cut_short_by: Reason | None = None
    any_event: bool = False
    """Whether an event of an item was stored."""
    limits: RunLimits = field(default_factory=RunLimits)
    attempts: Mapping[str, int] = field(default_factory=dict)

    def merged(self, other: "PartialReport") -> "PartialReport":
        """The report of both parts. Of causes and reasons that ended them, the one of the highest rank counts."""
        stops = [cause for cause in (self.stopped_by, other.stopped_by) if cause is not None]
        cuts = [reason for reason in Reason if reason in {self.cut_short_by, other.cut_short_by}]
        stopping = [part.tripped for part in (self, other) if part.stopped_by is not None]
        return PartialReport(
            tally=self.tally.merged(other.tally),
            histogram=self.histogram.merged(other.histogram),
            asked=self.asked + other.asked,
            requests=self.requests + other.requests,
            retries=self.retries + other.retries,
            left=self.left or other.left,
            stopped_by=min(stops, key=rank, default=None),
            tripped=bool(stopping) and all(stopping),
            cut_short_by=next(iter(cuts), None),
            any_event=self.any_event or other.any_event,
            limits=_merged_limits(self.limits, other.limits),
            attempts=dict(Counter(self.attempts) + Counter(other.attempts)),
        )

    def resumed(self) -> "PartialReport":
        """The same, for another part that goes on with the items that are left."""
        return replace(self, left=False, stopped_by=None, tripped=False, cut_short_by=None)

    def check_report(self) -> CheckReport:
        """The result, if this is all of the run."""
        stopped_by = self.stopped_by
        if not self.left and self.tripped and Cause.OUTAGE in self.tally.lightweight(requests=self.requests):
            stopped_by = None  # the breaker opened over the last items, and stopped nothing
        return CheckReport(
            tally=self.tally,
            asked=self.asked,
            requests=self.requests,
            retries=self.retries,
            latencies=self.histogram.latencies(),
            stopped_by=stopped_by,
            cut_short_by=self.cut_short_by if self.left and stopped_by is None else None,
            limits=self.limits,
            attempts=self.attempts,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "tally": self.tally.to_json(),
            "histogram": self.histogram.to_json(),
            **{name: getattr(self, name) for name in _NUMBERS},
            "stopped_by": self.stopped_by and self.stopped_by.value,
            "cut_short_by": self.cut_short_by and self.cut_short_by.value,
            "limits": msgspec.to_builtins(self.limits),
            "attempts": dict(self.attempts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PartialReport":
        """The report that `to_json` described."""
        stopped_by, cut_short_by = value["stopped_by"], value["cut_short_by"]
        return cls(
            tally=EvidenceCollector.from_json(value["tally"]),
            histogram=LatencyHistogram((bucket, count) for bucket, count in value["histogram"]),
            **{name: value[name] for name in _NUMBERS},
            stopped_by=stopped_by and Cause(stopped_by),
            cut_short_by=cut_short_by and Reason(cut_short_by),
            limits=msgspec.convert(value["limits"], RunLimits),
            attempts=value["attempts"],
        )


_NUMBERS = ("asked", "requests", "retries", "left", "tripped", "any_event")


def merge(parts: Iterable[PartialReport]) -> PartialReport:
    """The report of all parts, in any order."""
    return reduce(PartialReport.merged, parts, PartialReport())


def _merged_limits(one: RunLimits, other: RunLimits) -> RunLimits:
    """The limits of a credential are common, and so is the wait for them: the highest figures count."""
    of_rate = max(one, other, key=_rate_order)
    return RunLimits(
        rate_per_s=of_rate.rate_per_s,
        rate_source=of_rate.rate_source,
        next_rate_per_s=max(
            (each.next_rate_per_s for each in (one, other) if each.next_rate_per_s is not None), default=None
        ),
        rate_wait_s=max(one.rate_wait_s, other.rate_wait_s),
        unretried=one.unretried + other.unretried,
    )


def _rate_order(limits: RunLimits) -> tuple[float, str]:
    return -1.0 if limits.rate_per_s is None else limits.rate_per_s, limits.rate_source
