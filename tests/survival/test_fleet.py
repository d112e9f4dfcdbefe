"""The short form of kills of workers."""

import pytest
from support.world import World
from survival.fleet import survive

pytestmark = pytest.mark.process

KILLS = {
    "frozen before outcomes are stored": {"point": "share_record.enter", "do": "STOP"},
    "before the shares are stored": {"point": "hand_over.commit"},
    "before the shares are queued": {"point": "defer_share.enter"},
    "before outcomes are stored": {"point": "share_record.commit"},
    "before the run is closed": {"point": "seal.committed"},
}


@pytest.mark.parametrize(
    "kill",
    [pytest.param(kill, id=name, marks=() if "do" in kill else pytest.mark.nightly) for name, kill in KILLS.items()],
)
def test_others_go_on_with_the_run_of_a_killed_or_frozen_worker(tmp_path, sandbox, new_postgres, kill):
    world = World(tmp_path, sandbox, database=new_postgres(migrated=True), sync_log=new_postgres())
    try:
        survived = survive(world, **kill)
    finally:
        world.close()
    assert (survived.wrong, survived.killed) == ([], True)
