"""Fixtures for daemons in their own process: `start(world)` starts one, which ends with the test."""

import contextlib

import pytest
from support.running import Running


@pytest.fixture
def start():
    with contextlib.ExitStack() as started:

        def make(world, **options):
            running = Running(world, **options)
            started.callback(running.close)
            return running

        yield make
