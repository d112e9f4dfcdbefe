"""The benchmarks' wiring, at the smallest sizes: every figure is measured and has its row. No time is judged."""

from dataclasses import replace

import builds
import faults
import fleet
import fleet_limits
import many_targets
import pages
import postgresql
import pytest
import speed
import startup
import steady
import whole_list
import year

pytestmark = pytest.mark.process
nightly = pytest.mark.nightly


@pytest.fixture
def both():
    """This environment's command, as both builds."""
    here = builds.here()
    return [here, replace(here, name=builds.BEFORE)]


@pytest.fixture
def now(both):
    return both[:1]


def figures(rows):
    """The rows' figures; each was measured."""
    assert all(row.measured for row in rows)
    return " | ".join(row.figure for row in rows)


@pytest.mark.smoke
def test_items_are_measured_beside_a_peer_and_the_build_before(both, monkeypatch):
    monkeypatch.setattr(speed, "FEW", 2)
    rows = speed.plain(both, items=12, rounds=1, only=["aiohttp", "curl --parallel"])
    found = figures(rows)
    for name in ("one item, now, stored", "one item, aiohttp, stores nothing", "÷ before", "÷ aiohttp", "÷ curl"):
        assert name in found
    assert [row.goal for row in rows if "÷ before" in row.figure] == ["≥ 2.0"]


@nightly
def test_items_are_measured_over_tls(now, monkeypatch):
    monkeypatch.setattr(speed, "FEW", 2)
    assert "TLS: stored per CPU second ÷ pyreqwest" in figures(
        speed.tls(now, items=12, rounds=1, only=["pyreqwest", "requests", "httpx"])
    )


@nightly
def test_latency_is_measured_as_a_share_of_what_is_possible(now, monkeypatch):
    monkeypatch.setattr(speed, "LATENCY_IN_FLIGHT", 4)
    assert "ideal: now" in figures(speed.latency(now, items=12, rounds=1, only=["none"]))


@nightly
def test_failures_are_the_servers_counts(now):
    row = faults._failing(now[0], 1.0, 20)
    assert "requests per item" in row.figure
    assert "1 incident(s)" in row.measured


@nightly
def test_steady_runs_are_measured_on_sqlite(both, tmp_path, monkeypatch):
    monkeypatch.setattr(steady, "NEW_ROWS", 2)
    found = figures(steady.on_sqlite(both, tmp_path, items=400, rounds=1))
    for name in ("first run", "file unchanged", "rows unchanged", "updated_at_column", "0.5% pending", "peak memory"):
        assert name in found


@nightly
def test_steady_runs_are_measured_on_postgresql(now, tmp_path):
    assert "CPU in the server" in figures(steady.on_postgresql(now, tmp_path, items=50, rounds=1))


@nightly
def test_targets_are_measured_side_by_side(now, tmp_path, monkeypatch):
    monkeypatch.setattr(many_targets, "COUNTED", 1)
    rows = many_targets.rows(now, tmp_path, counts=[2], rounds=1)
    assert "configuration of 2 targets" in figures(rows)
    assert float(rows[-1].measured) > 1  # statements are counted


@nightly
def test_workers_are_measured_beside_one_process_and_at_a_rate_limit(now, tmp_path):
    with postgresql.running() as database:
        found = figures(fleet.unlimited(*now, database, tmp_path, items=250, workers=[1], latency_s=0.01))
        found += figures(fleet.limited(*now, database, tmp_path, rate=200, seconds=2, workers=[2]))
    for name in ("one process", "1 worker: items/s", "limit of 200/s: 2 workers"):
        assert name in found


@nightly
def test_a_credentials_limit_is_measured_among_clients(monkeypatch):
    monkeypatch.setitem(fleet_limits._WARM_S, "stated", 0)
    with postgresql.running() as database:
        row = fleet_limits.measured(database.create("limits"), "stated", 2, 50, 2)
    assert "50/s of a bucket, stated in headers; 2 client(s): share used" in figures([row])
    assert "%, " in row.measured


@nightly
@pytest.mark.parametrize("place", ["on_sqlite", "on_postgresql"])
def test_commands_are_measured_beside_a_past(place, both, tmp_path, monkeypatch):
    monkeypatch.setattr(year, "COMMANDS", ("gate t000", "metrics"))
    monkeypatch.setattr(year, "TARGETS", 1)
    rows = getattr(year, place)(both, tmp_path, runs=3, rounds=1)
    assert "report, the first" in figures(rows)
    assert all("FAILED" not in row.measured for row in rows)


@nightly
def test_pages_are_asked_for_on_both_databases(now, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "PATHS", ("/?since=365d", "/items → an item", "/incidents/1000000"))
    monkeypatch.setattr(year, "TARGETS", 1)
    rows = pages.on_sqlite(now, tmp_path, runs=3, rounds=1) + pages.on_postgresql(now, tmp_path, runs=3, rounds=1)
    found = figures(rows)
    for name in ("SQLite, 3 runs: the first page after the start", "/items → an item", "PostgreSQL, 3 runs: /?since"):
        assert name in found


@nightly
def test_a_list_is_measured_beside_a_plain_reader(now):
    assert "list: ÷ httpx" in figures(whole_list.rows(now, 300, 1))


@nightly
def test_commands_are_measured_beside_an_idle_interpreter(now, tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "_READING", ())
    assert "now: check, PostgreSQL" in figures(list(startup.rows(now, tmp_path, 2)))
