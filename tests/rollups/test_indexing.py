"""Which times to indexed are known: a table of what the monitor saw before."""

from datetime import UTC, datetime, timedelta

import pytest

from monitor.model.items import FirstCompletion
from monitor.rollups.indexing import Watch, time_to_indexed

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
EVERY_5M = Watch(previous_started_at=NOW - 5 * MINUTE, usual_gap=5 * MINUTE)
DAILY = Watch(previous_started_at=NOW - 24 * HOUR, usual_gap=24 * HOUR)
AFTER_A_PAUSE = Watch(previous_started_at=NOW - 72 * HOUR, usual_gap=5 * MINUTE)


def found(uploaded, seen=None, *, known=True):
    return FirstCompletion(
        item_id="a",
        group=None,
        uploaded_at=NOW - uploaded,
        upload_known=known,
        not_completed_at=seen and NOW - seen,
        at=NOW,
    )


@pytest.mark.parametrize(
    ("completion", "watch", "is_known"),
    [
        pytest.param(found(9 * MINUTE, 5 * MINUTE), EVERY_5M, True, id="pending in the last run"),
        pytest.param(found(9 * HOUR, 5 * MINUTE), EVERY_5M, True, id="pending for hours"),
        pytest.param(found(3 * MINUTE), EVERY_5M, True, id="uploaded since the last run"),
        pytest.param(found(6 * MINUTE), EVERY_5M, False, id="uploaded before, and never seen otherwise"),
        pytest.param(found(3 * MINUTE), Watch(), False, id="the first run of the target"),
        pytest.param(found(3 * MINUTE, 2 * MINUTE), Watch(), True, id="pending in a first run that was killed"),
        pytest.param(found(HOUR), AFTER_A_PAUSE, False, id="uploaded while the monitor was down"),
        pytest.param(found(80 * HOUR, 72 * HOUR), AFTER_A_PAUSE, False, id="pending before the monitor was down"),
        pytest.param(found(200 * HOUR, 72 * HOUR), AFTER_A_PAUSE, True, id="pending for longer than that"),
        pytest.param(found(24 * MINUTE, 15 * MINUTE), EVERY_5M, True, id="two runs could not tell"),
        pytest.param(found(20 * HOUR), DAILY, True, id="a daily run"),
        pytest.param(found(-MINUTE, 5 * MINUTE), EVERY_5M, False, id="a clock that was set back"),
        pytest.param(found(3 * MINUTE, known=False), EVERY_5M, False, id="no upload time, completed at first sight"),
        pytest.param(found(5 * MINUTE, 5 * MINUTE, known=False), EVERY_5M, True, id="no upload time, pending before"),
        pytest.param(found(2 * MINUTE, 5 * MINUTE), EVERY_5M, True, id="an answer before the upload time"),
    ],
)
def test_a_time_is_known_if_the_moment_lies_in_a_short_gap(completion, watch, is_known):
    took = time_to_indexed(completion, watch)
    assert took == (NOW - completion.uploaded_at if is_known else None)


@pytest.mark.parametrize(
    ("previous", "first"), [(None, True), (NOW - MINUTE, True), (NOW, False), (NOW - 24 * HOUR, True)]
)
def test_the_first_run_of_an_hour_merges(previous, first):
    assert Watch(previous_started_at=previous).first_of_hour(NOW + 59 * MINUTE) is first
