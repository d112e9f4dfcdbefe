"""How the runs of each span ended: counted from the runs, or from the rollups where spans are long."""

from datetime import timedelta

import pytest
from database.history import DAY, HOUR, HistoryBuilder
from support.samples import NOW

from monitor.database.engine import reading
from monitor.model import RunStatus
from monitor.reports.run_endings import endings_by_span

PARTIAL, FAILED, CRASHED = RunStatus.PARTIAL, RunStatus.FAILED, RunStatus.CRASHED
START = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - 30 * DAY


@pytest.mark.parametrize("length", [timedelta(minutes=10), HOUR, 6 * HOUR, 3 * DAY], ids=str)
def test_runs_that_did_not_complete_are_counted_by_span(engine, length):
    past = HistoryBuilder(engine)
    bounds = [START + n * length for n in range(4)]
    inside = timedelta(minutes=5)
    past.run(START - DAY, FAILED)
    past.run(START + inside, PARTIAL)
    past.run(bounds[2] + (length - inside), FAILED)
    past.run(bounds[2] + (length - inside), FAILED)
    past.run(bounds[2] + (length - inside))
    past.run(bounds[2] + (length - inside), FAILED, target="other")
    with reading(engine) as conn:
        found = endings_by_span(conn, target="gloo", bounds=bounds)
    assert [dict(each) for each in found] == [{PARTIAL: 1}, {}, {FAILED: 2}]


def test_runs_of_the_hour_that_has_just_begun_are_in_the_last_span(engine):
    past, now = HistoryBuilder(engine), START + timedelta(hours=1, minutes=4)
    past.run(now - timedelta(minutes=2), CRASHED)
    with reading(engine) as conn:
        found = endings_by_span(conn, target="gloo", bounds=[now - 2 * HOUR, now - HOUR, now])
    assert [dict(each) for each in found] == [{}, {CRASHED: 1}]
