"""Objectives as of a moment, for tests of charts and pages."""

from incidents.test_slo import MINUTE, at, objective, slot

from monitor.incidents.slo import assess
from monitor.reports.slos import SloRow


def slo(*slots):
    """Slots as how long ago, uploads, and late ones."""
    status = assess(objective(), [slot(at(28) - ago, total, bad, MINUTE) for ago, total, bad in slots], now=at(28))
    return SloRow(target="gloo", objective=objective(), status=status)
