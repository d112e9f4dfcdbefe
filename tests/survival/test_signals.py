"""The short form of SIGTERM at random moments: one moment for each command."""

import pytest
from survival.signals import end

pytestmark = pytest.mark.process


@pytest.mark.smoke
@pytest.mark.parametrize(("command", "after_s"), [("check", 0.12), ("notify", 0.03), ("daemon", 0.12)])
def test_told_to_end_it_leaves_nothing_claimed_and_keeps_what_it_finished(small_world, command, after_s):
    assert end(small_world, command, after_s).wrong == []
