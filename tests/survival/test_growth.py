"""Memory, files and threads of a ticking daemon do not grow: the short form of `growth.py`."""

import pytest
from survival.growth import grow, grown

pytestmark = [pytest.mark.process, pytest.mark.nightly]

RUNS, STRETCH = 160, 10


@pytest.mark.timeout(400)
def test_a_ticking_daemon_does_not_grow(store_url):
    growth = grow(store_url, RUNS, stretch=STRETCH)
    assert (growth.incidents >= 3, growth.messages >= 12) == (True, True)
    assert grown(growth) == []
