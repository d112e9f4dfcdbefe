"""The short form of `make survive`: a story with a few kills in it, each on both databases."""

import functools
from collections import Counter

import pytest
from survival import audit
from survival.kills import DELIVERY_POINTS, ENDS, OPENS, REFUSED, RUN_POINTS, Kill, stories_of, survive
from survival.story import Account, Desk, Story, told_without_kills

STORIES = [
    [Kill(point="begin.committed"), Kill(point="record.commit", chapter=REFUSED), Kill(point="close.commit", chapter=ENDS)],
    [Kill(point="sync.statement", nth=6), Kill(point="send.leave", command="notify", chapter=ENDS)],
]
"""A kill leaves a lease, a batch and a snapshot that are not stored; half a sync log; a message that is not marked."""


@pytest.fixture
def expected(request, sandbox):
    """The story's account without any kill, in a world of its own; told once for all tests of a process."""
    return _once(request.getfixturevalue)


EXPECTED = Account(
    snapshots=(
        ("complete", None, 12, 12, 0, 0, 0), ("complete", None, 13, 10, 1, 2, 0),
        ("aborted", "unauthorized", 13, 0, 0, 0, 13), ("aborted", "unauthorized", 13, 0, 0, 0, 13),
        ("complete", None, 13, 10, 1, 2, 0), ("complete", None, 13, 13, 0, 0, 0), ("complete", None, 13, 13, 0, 0, 0),
    ),
)
