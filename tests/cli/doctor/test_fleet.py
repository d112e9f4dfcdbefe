"""Doctor's findings about workers, their clocks, and how they hear of jobs."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from support.fleets import fill, queued
from web.served import config

from monitor.cli.doctor.examine import setting_locations
from monitor.cli.doctor.findings import Level
from monitor.cli.doctor.fleet import check_workers
from monitor.fleet import queue_schema

FLEET = "[fleet]\nworkers = true\n"


@pytest.fixture
def examined(tmp_path):
    """The findings, by part."""

    def examine(url, fleet=FLEET, ahead=timedelta(0)):
        settings = config(tmp_path, database=url, more=fleet)

        async def gathered():
            found = check_workers(settings, setting_locations(settings), now=datetime.now(UTC) + ahead)
            return {finding.part: finding async for finding in found}

        return asyncio.run(gathered())

    return examine


def test_workers_that_are_alive_are_well(new_postgres, examined):
    url = new_postgres(migrated=True)
    assert examined(url) == {}, "the missing queue is another finding"
    queue_schema.upgrade(url)
    fill(url)
    found = examined(url)
    assert {part: each.level for part, each in found.items()} == dict.fromkeys(("workers", "clock", "jobs"), Level.OK)
    assert found["workers"].message == "2 workers, of which 1 is busy; 2 jobs wait."
    assert "LISTEN" in found["jobs"].message


def test_each_problem_has_an_action(new_postgres, examined):
    url = new_postgres(migrated=True)
    queue_schema.upgrade(url)
    nobody = examined(url)["workers"]
    assert (nobody.level, nobody.message) == (Level.WARNING, "No worker is alive, and no job waits.")
    assert nobody.remedy == "start `ingestion-monitor worker`, or look in its log why it ended"
    fill(url, worker_seen=timedelta(minutes=1))
    dead = examined(url)["workers"]
    assert (dead.level, dead.setting) == (Level.PROBLEM, "fleet.workers")
    assert dead.message == "No worker is alive, and 2 jobs wait."
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE procrastinate.procrastinate_workers SET last_heartbeat = now()")
        queued(conn, "plan", {"target": "docs", "run_key": "k"}, since=timedelta(minutes=20))
    late = examined(url)["workers"]
    assert (late.level, late.message) == (Level.WARNING, "A run that is due has waited for 20 min.")
    clock = examined(url, ahead=timedelta(seconds=-9))["clock"]
    assert (clock.level, clock.message) == (Level.WARNING, "ours is 9 s behind the database server's.")
    jobs = examined(url, f'{FLEET}listen_url = "postgresql://u:p@127.0.0.1:1/x"')["jobs"]
    assert (jobs.level, jobs.setting) == (Level.WARNING, "fleet.listen_url")


def test_a_database_that_is_down_has_no_finding_here(examined):
    assert examined("postgresql://u:p@127.0.0.1:1/x") == {}
