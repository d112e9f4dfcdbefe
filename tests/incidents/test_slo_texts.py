"""What people read about an objective."""

from datetime import timedelta

import pytest
from incidents.test_slo import DAY, HOUR, MINUTE, at, objective, slot

from monitor.incidents.slo import SloStatus, assess
from monitor.incidents.slo_texts import (
    UNDECIDED,
    budget_text,
    format_rate,
    objective_text,
    percent,
    share_text,
    slo_facts,
    spent_text,
)

NOTHING = "no upload was due in the window"
LASTS = "never, at the rate of the last 3d"


def status(*slots: tuple[timedelta, int, int], share: float = 0.95) -> SloStatus:
    """Slots as how long ago, uploads, and late ones."""
    now = at(28)
    return assess(objective(share), [slot(now - ago, total, bad, MINUTE) for ago, total, bad in slots], now=now)


def test_a_burning_objective():
    facts = dict(slo_facts(status((10 * DAY, 9800, 0), (30 * MINUTE, 160, 150), (MINUTE, 40, 36))))
    assert facts == {
        "objective": "95% of uploads within 15m, over 28d",
        "in time": "98.1% of 10000 uploads",
        "error budget": "62.8% left: 186 uploads late, 500 allowed",
        "burn rate": "18.6× over 1h, 18× over 5m; threshold 14.4×",
        "budget spent": "in 22 h 41 min, at the rate of the last 1h: 2026-11-30 22:41 UTC",
    }


def test_an_alert_that_goes_on_while_nothing_is_decided():
    facts = dict(slo_facts(status((2 * HOUR, 10, 10), (DAY, 400, 0))))
    assert facts["burn rate"] == f"0.5× over 3d; {UNDECIDED}"
    assert facts["budget spent"] == LASTS
    assert facts["error budget"] == "51.2% left: 10 uploads late, 20 allowed"


@pytest.mark.parametrize(
    ("slots", "in_time", "budget", "spent"),
    [
        pytest.param([], NOTHING, f"100% left: {NOTHING}", LASTS, id="none"),
        pytest.param(
            [(MINUTE, 1, 0)], "100% of 1 upload", "100% left: 0 uploads late, 0 allowed", LASTS, id="one"
        ),
        pytest.param(
            [(20 * DAY, 900, 0), (5 * HOUR, 100, 10)],
            "99% of 1000 uploads", "80% left: 10 uploads late, 50 allowed",
            "in 11 d 4 h, at the rate of the last 3d: 2026-12-11 04:48 UTC", id="at twice the rate",
        ),
        pytest.param(
            [(MINUTE, 100000, 5001)], "94.9% of 100000 uploads", "spent: 5001 uploads late, 5000 allowed", "already",
            id="just missed is not rounded up",
        ),
    ],
)  # fmt: skip
def test_share_budget_and_when_it_is_spent(slots, in_time, budget, spent):
    found = status(*slots)
    assert (share_text(found), budget_text(found), spent_text(found)) == (in_time, budget, spent)


def test_more_nines_show_more_digits():
    found = status((MINUTE, 100_000, 50), share=0.9999)
    assert objective_text(found.objective) == "99.99% of uploads within 15m, over 28d"
    assert share_text(found) == "99.95% of 100000 uploads"


def test_a_group_is_named_on_one_line():
    assert objective_text(objective(group="a\nb")) == "95% of uploads of the group a b within 15m, over 28d"


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [(0.95, 1, "95%"), (0.95999, 1, "95.9%"), (1, 1, "100%"), (0, 1, "0%"), (-0.5, 1, "-50%"), (0.99999, 3, "99.999%")],
)
def test_shares(share, digits, text):
    assert percent(share, digits=digits) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (0.01, "0.1"), (1, "1"), (14.44, "14.4"), (20, "20"), (1e7, "10000000")]
)
def test_burn_rates(rate, text):
    assert format_rate(rate) == text
