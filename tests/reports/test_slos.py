"""The lines of an objective in each of its states."""

from datetime import timedelta

import pytest
from incidents.test_slo import DAY, HOUR, MINUTE, at, objective, slot

from monitor.incidents.slo import assess
from monitor.reports.slos import SloRow, slo_json, slo_lines, slo_sentences


def row(*slots: tuple[timedelta, int, int], incident_id: int | None = None, known: bool = True) -> SloRow:
    """Slots as how long ago, uploads, and late ones."""
    found = assess(objective(), [slot(at(28) - ago, total, bad, MINUTE) for ago, total, bad in slots], now=at(28))
    return SloRow(target="gloo", objective=objective(), status=found if known else None, incident_id=incident_id)


UNDECIDED = ((2 * HOUR, 10, 10), (DAY, 400, 0))


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        pytest.param(row(known=False), "no data yet", id="before the first run"),
        pytest.param(row(), "no data yet", id="without uploads"),
        pytest.param(row((MINUTE, 100, 1)), "ok", id="kept"),
        pytest.param(row((20 * DAY, 100, 5)), "budget spent", id="spent, and burning no more"),
        pytest.param(row((20 * DAY, 900, 0), (HOUR, 100, 20)), "burning too fast (warning)", id="slowly"),
        pytest.param(row((MINUTE, 9, 9)), "burning too fast (critical), budget spent", id="fast, and spent"),
        pytest.param(row(*UNDECIDED), "ok", id="undecided"),
        pytest.param(row(*UNDECIDED, incident_id=4), "undecided", id="undecided, with an open incident"),
    ],
)
def test_the_heading_says_how_it_stands(shown, verdict):
    assert next(slo_lines(shown)) == f"gloo: in 15 minutes: {verdict}"
    assert next(slo_sentences(shown)).startswith(f"Objective in 15 minutes: {verdict}: 95% of uploads within 15m")


def test_an_undecided_alert_says_why():
    text = " ".join(" ".join(slo_lines(row(*UNDECIDED, incident_id=4))).split())
    assert "alert undecided: fewer than 3 late uploads, or no upload was due of late" in text
    assert "incident 4: ingestion-monitor incidents show 4" in text


def test_what_is_not_known_is_null():
    before, after = slo_json(row(known=False)), slo_json(row((MINUTE, 100, 1)))
    assert before.keys() == after.keys()
    assert {name for name, value in before.items() if value is None} >= {"total", "ratio", "as_of", "state"}
