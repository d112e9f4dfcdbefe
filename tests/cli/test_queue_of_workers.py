"""`db`, `doctor` and `check` about the queue of workers."""

import json

import pytest

FLEET = "[fleet]\nworkers = true\n"


@pytest.fixture
def fleet_world(small_world, new_postgres):
    """A world on an empty PostgreSQL database, whose configuration has workers."""
    small_world.database = new_postgres()
    small_world.configure(more=FLEET)
    return small_world


def test_db_upgrade_brings_the_queue_too(here, fleet_world):
    assert here(fleet_world, "check").returncode == 3
    first = here(fleet_world, "db", "upgrade")
    assert "The queue of workers is at this program's version (upgraded: " in first.stdout
    current = here(fleet_world, "db", "current")
    assert (current.returncode, "queue of workers is at 0" in current.stdout) == (0, True)
    again = json.loads(here(fleet_world, "db", "upgrade", "--json").stdout)
    assert again == {"applied": [], "queue_applied": []}
    assert json.loads(here(fleet_world, "db", "current", "--json").stdout)["queue"] == "current"
    finding = next(line for line in here(fleet_world, "doctor").stdout.splitlines() if " queue " in line)
    assert "✓ queue" in finding
    assert "is current" in finding


def test_a_missing_queue_is_named_with_the_command_that_makes_it(here, fleet_world):
    fleet_world.configure()
    here(fleet_world, "db", "upgrade")
    fleet_world.configure(more=FLEET)
    for arguments, code in ((["check"], 3), (["db", "current"], 3), (["doctor"], 3)):
        ended = here(fleet_world, *arguments)
        assert ended.returncode == code
        said = " ".join((ended.stdout + ended.stderr).split())
        assert "has no queue for workers (fleet.workers)" in said
        assert "ingestion-monitor db upgrade" in said


def test_the_command_refuses_a_configuration_without_workers(here, small_world):
    refused = here(small_world, "worker")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "error: fleet.workers is false: workers need [fleet] workers = true, and PostgreSQL" in refused.stderr
