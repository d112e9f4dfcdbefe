"""From counts to a snapshot, and the line that sums it up. Pure."""

from collections.abc import Iterable
from dataclasses import asdict

from monitor.model import ItemState, Latencies, Snapshot


def roll_up(
    counts: Iterable[tuple[ItemState, int]],
    *,
    stuck: int = 0,
    checked: int = 0,
    requests: int = 0,
    retries: int = 0,
    latencies: Latencies = Latencies(),  # noqa: B008  # immutable
    duration_s: float = 0.0,
) -> Snapshot:
    """Adds partial counts by state up to one snapshot; their order and split do not matter.

    `requests` are the attempts that were sent about items, `retries` those of them that were not the first.
    """
    sums = dict.fromkeys(ItemState, 0)
    for state, count in counts:
        sums[state] += count
    return Snapshot(
        **{state.value: count for state, count in sums.items()},
        stuck=stuck,
        checked=checked,
        requests=requests,
        retries=retries,
        **asdict(latencies),
        duration_s=duration_s,
    )


def health_line(snapshot: Snapshot) -> str:
    """`Health: 2 completed, 0 pending, 0 failed, 1 not found`, then further states if they are not zero."""
    parts = []
    for state, count in snapshot.states.items():
        if state.always_shown or count:
            stuck = f" ({snapshot.stuck} stuck)" if state is ItemState.PENDING and snapshot.stuck else ""
            parts.append(f"{count} {state.label}{stuck}")
    return "Health: " + ", ".join(parts)
