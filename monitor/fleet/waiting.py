"""The jobs of the queue, as they are shown, and why one waits. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

TASKS = ("plan", "share", "close")
"""The names of jobs, in the order of a run."""
FLEET_HOLDER = "fleet"
"""Who holds the lease of a run in shares."""
MOMENT = timedelta(seconds=5)
"""A job that is due and waits no longer than this was only just queued: workers look for jobs every second or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInHand:
    """A job that a worker executes, or that waits."""

    task: str
    """One of `TASKS`."""
    target: str | None
    run_id: int | None = None
    """Of a share and of a close."""
    number: int | None = None
    """Of a share."""


class WaitReason(StrEnum):
    """Why a job waits."""

    NO_WORKER = "no_worker"
    LEASE_HELD = "lease_held"
    """Another run of the target holds its lease."""
    LATER = "later"
    """An attempt could not do it, and the next one comes later."""
    JUST_QUEUED = "just_queued"
    SLOTS_USED = "slots_used"
    """All workers are busy, and what they check of the target uses all requests in flight of its credential."""
    RATE_USED = "rate_used"
    """All workers are busy, and what they check of the target shares a rate limit."""
    ALL_BUSY = "all_busy"
    NOT_TAKEN = "not_taken"
    """A worker has nothing in hand, and does not take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A job that nobody has begun."""

    job: JobInHand
    since: datetime
    """When it was queued, or put back."""
    due_at: datetime | None = None
    """Not before this time; None: now."""
    lease_holder: str | None = None
    """Who holds the lease of its target, if that has not expired."""

    def waits_since(self, now: datetime) -> datetime | None:
        """Since when it is due and waits; None if it is not due."""
        if self.due_at is None:
            return self.since
        return max(self.since, self.due_at) if self.due_at <= now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetUse:
    """How a target's credential is used by what workers have in hand now, and its limits."""

    shares: int = 0
    """Shares in progress."""
    share_concurrency: int = 64
    """Requests in flight of one share, at most."""
    concurrency: int = 32
    """Of the credential, in all processes."""
    rate_per_s: float | None = None
    """Its rate limit, configured or learned; None: none is known."""


def why_waits(job: WaitingJob, *, now: datetime, alive: int, idle: int, use: TargetUse) -> WaitReason:
    """Why a job waits, with so many workers that are alive, of which so many have nothing in hand.

    What holds a job up for certain comes first: without workers nothing else matters, and a run begins under the lease
    of its target alone.
    """
    if not alive:
        return WaitReason.NO_WORKER
    if job.job.task == "plan" and job.lease_holder is not None:
        return WaitReason.LEASE_HELD
    since = job.waits_since(now)
    if since is None:
        return WaitReason.LATER
    if now - since <= MOMENT:
        return WaitReason.JUST_QUEUED
    if idle:
        return WaitReason.NOT_TAKEN
    if use.shares and use.shares * use.share_concurrency >= use.concurrency:
        return WaitReason.SLOTS_USED
    return WaitReason.RATE_USED if use.shares and use.rate_per_s is not None else WaitReason.ALL_BUSY
