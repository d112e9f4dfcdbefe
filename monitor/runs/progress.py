"""Input and result of a check, and the interfaces of the client and of a progress display."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from monitor.incidents.evidence import EvidenceCollector
from monitor.model import Cause, Evidence, Latencies, Reason, RunLimits
from monitor.model.http import BodySink, CallResult, Request
from monitor.runs.strategy import BY_ITEM, Approach


@dataclass(frozen=True, slots=True, kw_only=True)
class DueItems:
    """What a run must ask about."""

    count: int
    tracked: int = 0
    """All items of the target, as the run was planned."""
    rows: int = 0
    """The same with removed and ignored items: only a sync changes it."""
    recheck_ids: tuple[str, ...] = ()
    """Completed items that are checked again; the other completed items are carried over."""
    first_ids: tuple[str, ...] = ()
    """The items of `recheck_ids` that are asked about first."""
    members_first: int = 0
    """Most members of open incidents that are asked about before other unfinished items."""
    has_unverified: bool = True
    """Whether there may be unverified items."""
    only_rechecks: bool = False
    """Whether there are no other items than those of `recheck_ids`: none is unfinished or unverified."""
    probe_for: Cause | None = None
    """The open cause for which the run begins with one probe; None: no probe."""
    probe_ids: tuple[str, ...] = ()
    """Candidates for the probe, best first."""


class ApiClient(Protocol):
    """The part of the resilient client that a check uses."""

    @property
    def tripped(self) -> bool:
        """Whether the circuit breaker has stopped the target."""
        ...

    async def send(
        self,
        request: Request,
        *,
        deadline_s: float,
        sink_factory: Callable[[], BodySink] | None = None,
        max_attempts: int | None = None,
        is_repeat: bool = False,
        is_sample: bool = True,
    ) -> CallResult:
        """Sends a request with retries until `deadline_s` (monotonic); a repeat counts against the retry budget.

        With `sink_factory`, each attempt writes the body to a new sink. `is_sample` is False if a failure would say
        nothing about the service.
        """
        ...

    def share_retries(self, part: float) -> None:
        """Takes a part (above 0, at most 1) of the retry budget of a run: others have the rest. Call it first."""
        ...

    def attempts(self, requests: int) -> Mapping[str, int]:
        """Attempts by status class; `requests` of them were not token requests."""
        ...

    def limits(self) -> RunLimits:
        """How rate limit and retry budget bounded the run."""
        ...


class Progress(Protocol):
    """Receives the progress of a check."""

    def begin(self, total: int) -> None:
        """This many items are due."""
        ...

    def advance(self) -> None:
        """One item is finished."""
        ...


class NoProgress:
    """Shows nothing."""

    def begin(self, total: int) -> None:
        """Does nothing."""

    def advance(self) -> None:
        """Does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """How the check of one target ended."""

    tally: EvidenceCollector
    asked: int
    requests: int
    retries: int
    latencies: Latencies
    stopped_by: Cause | None = None
    """The cause that stopped the target; `outage` if the circuit breaker did."""
    cut_short_by: Reason | None = None
    """`deadline` or `interrupted`, if items were not asked about because of it."""
    approach: Approach = BY_ITEM
    probed_for: Cause | None = None
    """The cause for which the run began with one probe."""
    limits: RunLimits = field(default_factory=RunLimits)
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Attempts by status class: `4xx`, or `none` without a response. Of token requests only those that failed."""
    shared: bool = False
    """Whether only some items were asked about: the others are left to be shared."""

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Evidence of request causes, highest rank first."""
        return self.tally.evidence(requests=self.requests, stopped_by=self.stopped_by)

    @property
    def lightweight(self) -> frozenset[Cause]:
        """Request causes that only single items met: these have a trouble of their own."""
        return self.tally.lightweight(requests=self.requests, stopped_by=self.stopped_by)

    @property
    def single_items(self) -> tuple[Evidence, ...]:
        """What left these items unknown."""
        return self.tally.single_items(requests=self.requests, stopped_by=self.stopped_by)

    @property
    def of_their_own(self) -> int:
        """Items that stay unknown for a trouble of their own."""
        return self.tally.of_their_own(requests=self.requests, stopped_by=self.stopped_by)
