import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.sandbox.engine import STAGES, Item

SECONDS = st.floats(min_value=0, max_value=1e6)


def item(filename="sermon.txt", status=None, created_s=1000.0):
    return Item(
        item_id="1", publisher_id="p", filename=filename, created_s=created_s, changed_s=created_s, status=status
    )


WALKS = {
    "at once": ("sermon.txt", 0, "STARTED", 0),
    "just before the second stage": ("sermon.txt", 9.9, "STARTED", 0),
    "second stage": ("sermon.txt", 10, "QUEUED", 10),
    "half way": ("sermon.txt", 45, "CHUNKING", 40),
    "last stage before the end": ("sermon.txt", 79.9, "ENRICHED", 70),
    "the end": ("sermon.txt", 80, "COMPLETED", 80),
    "long after the end": ("sermon.txt", 8000, "COMPLETED", 80),
    "a failing file looks well at first": ("will-fail.txt", 79.9, "ENRICHED", 70),
    "a failing file fails at the end": ("will-fail.txt", 80, "FAILED", 80),
    "a stuck file walks": ("stuck.txt", 39, "NORMALIZING", 30),
    "a stuck file stops": ("stuck.txt", 40, "CHUNKING", 40),
    "a stuck file stays": ("stuck.txt", 4000, "CHUNKING", 40),
}


@pytest.mark.parametrize(("filename", "after_s", "status", "since_s"), WALKS.values(), ids=WALKS)
def test_an_item_passes_its_stages_in_equal_steps(filename, after_s, status, since_s):
    assert item(filename).status_at(1000.0 + after_s, item_seconds=80.0) == (status, 1000.0 + since_s)


def test_an_item_is_final_at_once_with_a_duration_of_zero():
    assert item().status_at(1000.0, item_seconds=0.0) == ("COMPLETED", 1000.0)
    assert item("stuck.txt").status_at(1000.0, item_seconds=0.0) == ("CHUNKING", 1000.0)


def test_an_item_keeps_the_status_that_it_was_given():
    kept = item(status="RERANKING")
    kept.changed_s = 1500.0
    assert kept.status_at(9000.0, item_seconds=80.0) == ("RERANKING", 1500.0)


@given(
    filename=st.sampled_from(["sermon.txt", "fail.txt", "stuck.txt"]),
    first=SECONDS,
    later=SECONDS,
    item_seconds=SECONDS,
)
def test_an_item_never_moves_back_or_into_the_future(filename, first, later, item_seconds):
    walking = item(filename, created_s=0.0)
    order = [*STAGES, "FAILED"]
    before, since_before = walking.status_at(first, item_seconds=item_seconds)
    after, since_after = walking.status_at(first + later, item_seconds=item_seconds)
    assert order.index(before) <= order.index(after)
    assert since_before <= since_after <= first + later or since_after == pytest.approx(first + later)
