import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model import ItemState, Latencies, Snapshot
from monitor.runs.latencies import LatencyHistogram
from monitor.runs.rollup import health_line, roll_up

parts = st.lists(st.tuples(st.sampled_from(ItemState), st.integers(0, 1000)))


@given(parts, st.randoms())
def test_roll_up_ignores_order_and_split(counts, random):
    shuffled = list(counts)
    random.shuffle(shuffled)
    split = [(state, 1) for state, count in shuffled for _ in range(count)]
    assert roll_up(counts) == roll_up(shuffled) == roll_up(split)
    assert roll_up(counts).total == sum(count for _, count in counts)


def test_roll_up_carries_what_the_run_measured():
    latencies = Latencies(latency_p50_ms=1.5, latency_p95_ms=9.0)
    snapshot = roll_up(
        [(ItemState.PENDING, 3)], stuck=1, checked=2, requests=4, retries=1, latencies=latencies, duration_s=2.5
    )
    expected = Snapshot(
        pending=3, stuck=1, checked=2, requests=4, retries=1, latency_p50_ms=1.5, latency_p95_ms=9.0, duration_s=2.5
    )
    assert snapshot == expected


LINES = [
    (Snapshot(completed=2, not_found=1), "Health: 2 completed, 0 pending, 0 failed, 1 not found"),
    (Snapshot(), "Health: 0 completed, 0 pending, 0 failed, 0 not found"),
    (Snapshot(pending=3, stuck=2), "Health: 0 completed, 3 pending (2 stuck), 0 failed, 0 not found"),
    (
        Snapshot(failed=1, invalid=4, unknown=5),
        "Health: 0 completed, 0 pending, 1 failed, 0 not found, 4 invalid, 5 unknown",
    ),
]


@pytest.mark.parametrize(("snapshot", "line"), LINES, ids=["good", "empty", "stuck", "further states"])
def test_the_health_line(snapshot, line):
    assert health_line(snapshot) == line


@given(st.lists(st.floats(0.02, 60_000), min_size=1), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_a_quantile_is_within_a_bucket_of_the_true_one(latencies, share):
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(latency)
    ordered = sorted(latencies)
    true = next(x for n, x in enumerate(ordered, 1) if n >= share * len(ordered))
    assert histogram.quantile(share) == pytest.approx(true, rel=0.03, abs=0.011)


def test_no_latency_has_no_quantile():
    assert LatencyHistogram().quantile(0.5) is None
