"""Rollups of history equal what the single runs add up to, however these were closed."""

from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from monitor.database import schema
from monitor.database.engine import reading, writing
from monitor.database.tables import ROLLED_UP_MAXIMA, runs, snapshots
from monitor.errors import LeaseLostError
from monitor.model import RunStatus, Snapshot
from monitor.reports import changes, trends
from monitor.rollups import history
from monitor.rollups.bounds import slot_start
from monitor.runs import store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ENDED = [status for status in RunStatus if status is not RunStatus.RUNNING]


def recomputed(conn, width):
    """The rollups of a width from the single runs, by target and start."""
    rows = conn.execute(
        select(runs, snapshots).outerjoin(snapshots, snapshots.c.run_id == runs.c.id).where(runs.c.status != "running")
    ).mappings()
    key = lambda row: (row["target"], slot_start(row["started_at"], width))  # noqa: E731  # used twice
    return {
        of: _rolled_up(sorted(each, key=lambda row: row["id"]))
        for of, each in groupby(sorted(rows, key=lambda row: (*key(row), row["id"])), key)
    }


def _rolled_up(rows):
    counted = [row for row in rows if row["run_id"] is not None]
    last = counted[-1] if counted else dict.fromkeys(history._LAST)
    latencies = [row["latency_p95_ms"] for row in counted if row["latency_p95_ms"] is not None]
    return {
        **{name: last[name] for name in history._LAST},
        **{f"runs_{status}": sum(row["status"] == status for row in rows) for status in ENDED},
        **{f"{name}_sum": sum(row[name] for row in counted) for name in ("total", "unknown", "requests", "retries")},
        "duration_sum_s": sum(row["duration_s"] for row in counted),
        "completed_min": min((row["completed"] for row in counted), default=None),
        **{f"{name}_max": max((row[name] for row in counted), default=None) for name in ROLLED_UP_MAXIMA},
        "latency_p95_max_ms": max(latencies, default=None),
    }


def rolled_up(conn, width):
    found = {}
    for row in conn.execute(select(history.TABLES[width])).mappings():
        values = dict(row)
        found[values.pop("target"), values.pop("starts_at")] = values
    return found


SNAPSHOTS = st.builds(
    Snapshot,
    **{name: st.integers(0, 5) for name in ("completed", "failed", "not_found", "unknown", "requests", "retries")},
    pending=st.integers(2, 5), stuck=st.integers(0, 2), duration_s=st.sampled_from([0.5, 2.25]),
    latency_p95_ms=st.none() | st.sampled_from([1.5, 99.0]),
)  # fmt: skip
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["gloo", "uppzy"]),
        st.integers(0, 3000),
        st.sampled_from([*ENDED, RunStatus.RUNNING]),
        SNAPSHOTS,
    ),
    max_size=12,
)


def close(conn, run_id, target, status, snapshot, at):
    """Closes a run; CRASHED: its process died, and the next one closes it."""
    match status:
        case RunStatus.RUNNING:
            return
        case RunStatus.CRASHED:
            store.abandon(conn, target=target, before_epoch=2, at=at)
        case _:
            store.finish(
                conn, run_id=run_id, status=status, abort_reason=None, owner_cause=None, due=1, answered=1, error=None,
                finished_at=at, snapshot=None if status is RunStatus.FAILED else snapshot,
            )  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
def test_rollups_are_what_the_single_runs_add_up_to(engine, closed):
    with writing(engine) as conn:
        for table in (runs, *history.TABLES.values()):
            conn.execute(delete(table))
        for target, minutes, status, snapshot in closed:
            at = NOW + minutes * MINUTE
            run_id = store.start(conn, target=target, environment="e", run_key="k", epoch=1, started_at=at)
            close(conn, run_id, target, status, snapshot, at + MINUTE)
    with reading(engine) as conn:
        for width in history.TABLES:
            assert rolled_up(conn, width) == recomputed(conn, width)


def test_a_second_close_adds_nothing(engine):
    with writing(engine) as conn:
        run_id = store.start(conn, target="gloo", environment="e", run_key=None, epoch=1, started_at=NOW)
        close(conn, run_id, "gloo", RunStatus.COMPLETE, Snapshot(completed=1), NOW)
    with writing(engine) as conn:
        close(conn, run_id, "gloo", RunStatus.CRASHED, None, NOW)
    with writing(engine) as conn, pytest.raises(LeaseLostError):
        close(conn, run_id, "gloo", RunStatus.PARTIAL, Snapshot(), NOW)
    with reading(engine) as conn:
        assert rolled_up(conn, history.DAY) == recomputed(conn, history.DAY)


def test_what_a_closing_transaction_takes_back_was_never_added(engine):
    with writing(engine) as conn:
        run_id = store.start(conn, target="gloo", environment="e", run_key=None, epoch=1, started_at=NOW)

    def closing(*, fails):
        with writing(engine) as conn:
            close(conn, run_id, "gloo", RunStatus.PARTIAL, Snapshot(failed=2), NOW)
            if fails:
                raise OSError("taken back")

    with pytest.raises(OSError, match="taken back"):
        closing(fails=True)
    closing(fails=False)
    with reading(engine) as conn:
        assert rolled_up(conn, history.HOUR) == recomputed(conn, history.HOUR)
        assert len(rolled_up(conn, history.HOUR)) == 1


def test_an_upgrade_rolls_up_the_runs_of_the_past(database_url, connected):
    from database.older import bring_to

    bring_to(database_url, "0010", rows=1)
    engine = connected(database_url)
    counts = dict.fromkeys(("pending", "failed", "not_found", "invalid", "unknown", "stuck"), 0)
    with writing(engine) as conn:
        for n in range(60):
            status = [*ENDED, RunStatus.RUNNING][n % 6]
            at = NOW + n * 37 * MINUTE
            row = {"target": "gloo" if n % 7 else "uppzy", "environment": "e", "epoch": 1, "status": status.value}
            conn.execute(insert(runs).values(id=n + 100, started_at=at, finished_at=at, **row))
            if n % 6 < 3:
                values = counts | {"total": n, "completed": n, "checked": n, "requests": n, "retries": 1}
                conn.execute(
                    insert(snapshots).values(run_id=n + 100, duration_s=0.5, latency_p95_ms=n or None, **values)
                )
    schema.upgrade(database_url)
    with reading(engine) as conn:
        for width in history.TABLES:
            assert rolled_up(conn, width) == recomputed(conn, width)
            assert len(rolled_up(conn, width)) > 2


RUNS_OVER_DAYS = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from([*ENDED, RunStatus.RUNNING])), max_size=30
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS_OVER_DAYS, st.integers(0, 30 * 24), st.booleans())
def test_runs_are_counted_out_of_the_rollups_as_one_by_one(engine, gaps, hours, first_report):
    at, until = NOW, NOW + 10 * history.DAY
    with writing(engine) as conn:
        for table in (runs, *history.TABLES.values()):
            conn.execute(delete(table))
        for gap, status in gaps:
            at += gap * 7 * MINUTE
            run_id = store.start(conn, target="gloo", environment="e", run_key=None, epoch=1, started_at=at)
            close(conn, run_id, "gloo", status, Snapshot(), at)
        since = NOW + hours * 30 * MINUTE / 3
        after = changes.runs_before(conn, targets=["gloo"], at=since)["gloo"]
        began = since if first_report else changes.started_at(conn, run_ids=[after]).get(after, since)
        one_by_one = changes.count_runs(conn, after={"gloo": after}).get("gloo")
        found = changes.count_runs_since(conn, began={"gloo": (after, began)}, now=max(until, at)).get("gloo")
    assert (found and dict(found.by_status)) == (one_by_one and dict(one_by_one.by_status))
    assert (found and found.last_run_id) == (one_by_one and one_by_one.last_run_id)


@pytest.mark.slow_twice
def test_samples_and_counts_are_the_same_after_the_runs_were_pruned(engine):
    with writing(engine) as conn:
        for n in range(0, 20 * 24 * 60, 37):
            at, status = NOW + n * MINUTE, [RunStatus.COMPLETE, RunStatus.FAILED, RunStatus.PARTIAL][n % 3]
            run_id = store.start(conn, target="gloo", environment="e", run_key="k", epoch=1, started_at=at)
            close(conn, run_id, "gloo", status, Snapshot(completed=n, latency_p50_ms=2.0), at + MINUTE)
    bounds = [NOW + n * timedelta(hours=12) for n in range(1, 41)]
    asked = {"began": {"gloo": (0, NOW - MINUTE)}, "now": bounds[-1]}

    def read():
        with reading(engine) as conn:
            return trends.samples(conn, targets=["gloo"], bounds=bounds), changes.count_runs_since(conn, **asked)

    before = read()
    with writing(engine) as conn:
        conn.execute(delete(runs).where(runs.c.started_at < bounds[-1] - 2 * history.HOUR, runs.c.id % 50 != 0))
    assert read() == before
    assert all(before[0])
