"""From counts to a snapshot, and the line that sums it up. Pure."""

from collections.abc import Iterable, Mapping

from monitor.model import ItemState, Snapshot


def roll_up(
    counts: Iterable[tuple[ItemState, int]],
    *,
    stuck: int = 0,
    checked: int = 0,
    requests: int = 0,
    retries: int = 0,
    latencies_ms: tuple[float | None, float | None] = (None, None),
    duration_s: float = 0.0,
) -> Snapshot:
    """Adds partial counts up into one snapshot; the order and the way they were split do not matter.

    Args:
        counts: pairs of a state and how many items are in it (≥ 0); a state may occur many times.
        stuck: how many of the pending ones are stuck.
        checked: items answered in this run.
        requests: attempts sent to the API about items.
        retries: how many of those were not the first.
        latencies_ms: median and 95th percentile, in milliseconds.
        duration_s: wall-clock seconds of the run.
    """
    sums = dict.fromkeys(ItemState, 0)
    for state, count in counts:
        sums[state] += count
    return Snapshot(
        completed=sums[ItemState.COMPLETED],
        pending=sums[ItemState.PENDING],
        failed=sums[ItemState.FAILED],
        not_found=sums[ItemState.NOT_FOUND],
        invalid=sums[ItemState.INVALID],
        unknown=sums[ItemState.UNKNOWN],
        stuck=stuck,
        checked=checked,
        requests=requests,
        retries=retries,
        latency_p50_ms=latencies_ms[0],
        latency_p95_ms=latencies_ms[1],
        duration_s=duration_s,
    )


_ALWAYS: Mapping[ItemState, str] = {
    ItemState.COMPLETED: "completed",
    ItemState.PENDING: "pending",
    ItemState.FAILED: "failed",
    ItemState.NOT_FOUND: "not found",
}
_IF_ANY: Mapping[ItemState, str] = {ItemState.INVALID: "invalid", ItemState.UNKNOWN: "unknown"}


def health_line(snapshot: Snapshot) -> str:
    """`Health: 2 completed, 0 pending, 0 failed, 1 not found`, then further states where they are not zero."""
    states = snapshot.states
    parts = [f"{states[state]} {name}" for state, name in _ALWAYS.items()]
    if snapshot.stuck:
        parts[1] += f" ({snapshot.stuck} stuck)"
    parts += [f"{states[state]} {name}" for state, name in _IF_ANY.items() if states[state]]
    return "Health: " + ", ".join(parts)
