"""The short form of killed canaries: one kill per kind."""

import pytest
from survival.canary import IN_FLIGHT, survive

pytestmark = pytest.mark.process


def test_a_canary_killed_while_its_upload_is_answered_is_cleaned_up_by_the_next(small_world):
    assert survive(small_world, point=IN_FLIGHT).wrong == []


@pytest.mark.parametrize("point", ["canary_begin.committed", "keep.enter", "ask.leave", "canary_close.commit"])
def test_a_canary_killed_in_a_step_is_cleaned_up_by_the_next(world, point):
    assert survive(world, point=point).wrong == []
