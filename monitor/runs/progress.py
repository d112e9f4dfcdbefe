"""What a check is to ask about, how it gets on, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from monitor.incidents.evidence import EvidenceCollector
from monitor.model import Cause, Reason
from monitor.runs.strategy import BY_ITEM, Approach


@dataclass(frozen=True, slots=True, kw_only=True)
class DueItems:
    """What a run is to ask about."""

    count: int
    recheck_ids: tuple[str, ...] = ()
    """The completed items among them; the other completed ones are carried over."""
    first_ids: tuple[str, ...] = ()
    """Those of the completed items that it begins with."""
    probe_for: Cause | None = None
    """The cause for which one item is asked about before anything else is sent; None: the run begins as any other."""
    probe_ids: tuple[str, ...] = ()
    """Which item that may be, the best first."""


class Progress(Protocol):
    """Told how a check gets on, for whoever watches."""

    def begin(self, total: int) -> None:
        """So many items are due."""
        ...

    def advance(self) -> None:
        """One more item is finished."""
        ...


class NoProgress:
    """Nobody watches."""

    def begin(self, total: int) -> None:
        """Nothing is shown."""

    def advance(self) -> None:
        """Nothing is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """How the check of one target ended."""

    tally: EvidenceCollector
    asked: int
    """Items that have an outcome."""
    requests: int
    retries: int
    latencies_ms: tuple[float | None, float | None]
    """Median and 95th percentile."""
    stopped_by: Cause | None = None
    """The cause that stopped the target; `outage` when the breaker did."""
    cut_short_by: Reason | None = None
    """`deadline` or `interrupted`, when that left items unasked."""
    approach: Approach = BY_ITEM
    probed_for: Cause | None = None
    """The cause for which it began with one probe."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """What was sent to the API, by status class: `4xx`, or `none` for no answer; requests for tokens if they failed."""
