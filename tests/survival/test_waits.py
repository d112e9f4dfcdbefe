"""The short form of killed waits: some steps, and each way in which the row is closed."""

import pytest
from survival.waits import survive

pytestmark = pytest.mark.process


def test_a_wait_killed_while_it_asks_is_closed_by_the_next_run(small_world):
    assert survive(small_world, point="ask.enter").wrong == []


@pytest.mark.parametrize("point", ["wait_begin.committed", "wait_renew.commit", "wait_finish.enter"])
@pytest.mark.parametrize("closed_by", ["check", "wait"])
def test_a_wait_killed_in_a_step_is_closed_and_counted_once(world, point, closed_by):
    assert survive(world, point=point, closed_by=closed_by).wrong == []
