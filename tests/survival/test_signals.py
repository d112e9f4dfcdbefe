"""The short form of SIGTERM at random times: one signal per command."""

import pytest
from support.thinned import smoke_first
from survival.signals import end

pytestmark = pytest.mark.process


@pytest.mark.parametrize(("command", "after_s"), smoke_first([("check", 0.12), ("notify", 0.03), ("daemon", 0.12)]))
def test_after_sigterm_nothing_is_claimed_and_finished_work_is_kept(small_world, command, after_s):
    assert end(small_world, command, after_s).wrong == []
