"""The short form of kills of syncs, on both databases."""

import pytest
from survival.sync import survive

pytestmark = pytest.mark.process


@pytest.mark.smoke
@pytest.mark.parametrize(
    "kill",
    [{"point": "sync.commit"}, {"point": "sync.statement", "nth": 13, "doubt": True}],
    ids=["some pages, not committed", "half merged, after a doubt"],
)
def test_the_next_run_ends_a_killed_sync(world, kill):
    survived = survive(world, **kill)
    assert (survived.wrong, survived.killed) == ([], True)
