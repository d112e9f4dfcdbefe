"""Service level objectives: budgets, burn rates, and on a table of weeks when their alert fires and ends."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.thinned import ends_only

from monitor.incidents.slo import BURN_ALERTS, BURN_WINDOWS, AlertState, Objective, Slot, assess
from monitor.model import Severity

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
STEP = timedelta(minutes=5)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FAST, MIDDLE, SLOW = BURN_ALERTS
CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING


def objective(share: float = 0.95, **changes: object) -> Objective:
    return Objective(**{"name": "in 15 minutes", "objective": share, "within": 15 * MINUTE, **changes})


def slot(start: datetime, total: int, bad: int, resolution: timedelta = STEP) -> Slot:
    return Slot(start=start, resolution=resolution, total=total, good=total - bad)


def at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


# --- one moment


@pytest.mark.parametrize(
    ("share", "total", "bad", "allowed", "left_uploads", "left"),
    [
        pytest.param(0.95, 0, 0, 0, 0, 1.0, id="no uploads: untouched"),
        pytest.param(0.95, 1000, 0, 50, 50, 1.0, id="none late"),
        pytest.param(0.95, 1000, 20, 50, 30, 0.6, id="two fifths spent"),
        pytest.param(0.95, 1000, 50, 50, 0, 0.0, id="exactly spent, in spite of binary fractions"),
        pytest.param(0.9, 10, 1, 1, 0, 0.0, id="the same for 0.9"),
        pytest.param(0.95, 1000, 75, 50, -25, -0.5, id="overspent"),
        pytest.param(0.999, 100, 1, 0.1, -0.9, -9.0, id="less than one upload may be late"),
    ],
)
def test_the_error_budget(share, total, bad, allowed, left_uploads, left):
    status = assess(objective(share), [slot(MONDAY, total, bad)], now=MONDAY + STEP)
    assert (status.total, status.bad) == (total, bad)
    assert (status.allowed, status.budget_left_uploads, status.budget_left) == (allowed, left_uploads, left)
    assert status.share == (1 - bad / total if total else None)


def test_burn_rates_are_measured_in_every_window_of_the_alerts():
    slots = [
        slot(at(0), 100, 100, HOUR),
        slot(at(2, 12), 100, 10),
        slot(at(2, 17, 40), 100, 5),
        slot(at(2, 17, 55), 100, 0),
    ]
    status = assess(objective(), slots, now=at(2, 18))
    assert (
        [each.window for each in status.burn_rates]
        == list(BURN_WINDOWS)
        == [STEP, 30 * MINUTE, HOUR, 6 * HOUR, 3 * DAY]
    )
    assert [each.rate for each in status.burn_rates] == [0, 0.5, 0.5, 1.0, 5.75]
    assert [(each.bad, each.total) for each in status.burn_rates][-2:] == [(15, 300), (115, 400)]


def test_a_window_is_rounded_up_to_whole_slots_and_leaves_out_those_that_have_not_begun():
    inside, outside, future = slot(at(0, 0, 10), 10, 1), slot(at(0, 0, 5), 10, 1), slot(at(0, 0, 20), 10, 1)
    status = assess(objective(), [future, outside, inside], now=at(0, 0, 19))
    assert (status.burn_rate(STEP).total, status.burn_rate(30 * MINUTE).total) == (10, 20)


def test_the_window_of_the_objective_forgets():
    slots = [slot(at(0), 100, 100), slot(at(7), 100, 0)]
    assert [assess(objective(window=7 * DAY), slots, now=now).bad for now in (at(7), at(7, 0, 6))] == [100, 0]


@pytest.mark.parametrize(
    ("slots", "lasts"),
    [
        pytest.param([(MINUTE, 100, 0)], None, id="nothing late"),
        pytest.param([], None, id="no uploads at all"),
        pytest.param([(20 * DAY, 900, 0), (5 * HOUR, 100, 5)], None, id="at a rate of 1 it lasts"),
        pytest.param([(20 * DAY, 900, 0), (5 * HOUR, 100, 10)], 28 * DAY * 0.8 / 2, id="at twice the rate"),
        pytest.param([(20 * DAY, 900, 0), (5 * HOUR, 100, 50)], 0 * DAY, id="spent already"),
        pytest.param([(20 * DAY, 9900, 0), (MINUTE, 100, 100)], 28 * DAY * 0.8 / 20, id="a fast alert: its hour"),
        pytest.param([(20 * DAY, 900, 40)], None, id="no uploads of late"),
    ],
)
def test_when_the_budget_will_be_spent(slots, lasts):
    now = at(28)
    status = assess(objective(), [slot(now - ago, total, bad, MINUTE) for ago, total, bad in slots], now=now)
    assert status.spent_at == (None if lasts is None else now + lasts)


@pytest.mark.parametrize(
    ("share", "thresholds"),
    [
        pytest.param(0.999, [14.4, 6.0, 1.0], id="as recommended"),
        pytest.param(0.95, [14.4, 6.0, 1.0], id="95%"),
        pytest.param(0.9, [9.0, 6.0, 1.0], id="90%: a total outage burns 10"),
        pytest.param(0.5, [1.8, 1.8, 1.0], id="50%: a total outage burns 2"),
    ],
)
def test_a_total_outage_reaches_every_threshold(share, thresholds):
    assert [round(alert.threshold(objective(share)), 9) for alert in BURN_ALERTS] == thresholds
    assert max(thresholds) < objective(share).highest_burn_rate
    assert assess(objective(share), [slot(MONDAY, 100, 100)], now=MONDAY + STEP).firing == BURN_ALERTS


@pytest.mark.parametrize(
    ("slots", "state"),
    [
        pytest.param([], AlertState.QUIET, id="nothing"),
        pytest.param([(MINUTE, 2, 1)], AlertState.UNDECIDED, id="one late upload of two"),
        pytest.param([(MINUTE, 2, 2)], AlertState.UNDECIDED, id="two of two"),
        pytest.param([(MINUTE, 3, 3)], AlertState.FIRING, id="three of three"),
        pytest.param([(50 * MINUTE, 2, 2), (MINUTE, 1, 1)], AlertState.FIRING, id="three within the hour"),
        pytest.param([(HOUR, 10, 10), (MINUTE, 200, 0)], AlertState.QUIET, id="the short windows are well again"),
        pytest.param([(50 * MINUTE, 10, 10)], AlertState.FIRING, id="nothing in 5m and 30m, but 6h still burn"),
        pytest.param([(2 * HOUR, 10, 10), (DAY, 400, 0)], AlertState.UNDECIDED, id="nothing in 30m shows a recovery"),
        pytest.param([(7 * HOUR, 10, 10)], AlertState.QUIET, id="nothing in 6h: nothing is spent"),
        pytest.param([(4 * DAY, 10, 10)], AlertState.QUIET, id="too long ago"),
        pytest.param([(MINUTE, 100, 5)], AlertState.QUIET, id="exactly at the objective"),
    ],
)
def test_the_state_of_the_alert(slots, state):
    now = at(14)
    status = assess(objective(), [slot(now - ago, total, bad, MINUTE) for ago, total, bad in slots], now=now)
    assert status.state is state
    assert (status.severity is not None) == (state is AlertState.FIRING)


# --- weeks


@dataclass(frozen=True)
class Week:
    """Uploads decided per five minutes, and what the alert must do."""

    share: Callable[[datetime], float]
    """Late uploads of those decided at a moment, 0 to 1."""
    alerts: list[tuple[datetime, datetime | None, Severity]]
    """Each alert: when it fires and ends, at evaluations five minutes apart, and its severity when it fires."""
    uploads: Callable[[datetime], int] = field(default=lambda _: 100)
    objective: float = 0.95
    left: float | None = None
    """Error budget left at the end of the week, to a percent."""


def between(start: datetime, end: datetime, high: float, low: float = 0.0) -> Callable[[datetime], float]:
    return lambda moment: high if start <= moment < end else low


def office_hours(moment: datetime) -> int:
    return 40 if moment.weekday() < 5 and 8 <= moment.hour < 18 else 0


def every(interval: timedelta) -> Callable[[datetime], int]:
    return lambda moment: 0 if (moment - MONDAY) % interval else 1


WEEKS = {
    "steady: 1% late of 5% allowed": Week(lambda _: 0.01, [], left=0.8),
    "exactly at the objective": Week(lambda _: 0.05, [], left=0.0),
    "slow burn: 8% late from Wednesday on": Week(
        between(at(2), at(7), 0.08), [(at(3, 21, 5), None, WARNING)], left=-0.14
    ),
    "faster burn: 40% late for a day; six hours must be well again": Week(
        between(at(2), at(3), 0.4), [(at(2, 4, 35), at(3, 5, 15), CRITICAL)]
    ),
    "fast burn: 80% late for three hours": Week(
        between(at(2, 9), at(2, 12), 0.8), [(at(2, 9, 55), at(2, 12, 20), CRITICAL)], left=0.71
    ),
    "total outage of a day": Week(between(at(2), at(3), 1.0), [(at(2, 0, 45), at(3, 5, 45), CRITICAL)], left=-1.86),
    "a spike of ten minutes": Week(between(at(2, 9), at(2, 9, 10), 1.0), [], left=0.98),
    "a spike of fifty minutes, and its end": Week(
        between(at(2, 9), at(2, 9, 50), 1.0), [(at(2, 9, 45), at(2, 9, 55), CRITICAL)], left=0.9
    ),
    "no uploads at all": Week(lambda _: 1.0, [], uploads=lambda _: 0, left=1.0),
    "the first day: an outage from the first upload on": Week(
        between(at(6, 12), at(6, 14), 1.0), [(at(6, 12, 5), at(6, 19, 45), CRITICAL)],
        uploads=lambda moment: 100 if moment >= at(6, 12) else 0,
    ),
    "recovery, and the same again": Week(
        lambda moment: 1.0 if moment.hour == 9 and moment.weekday() in {1, 3} else 0.0,
        [(at(1, 9, 45), at(1, 10, 5), CRITICAL), (at(3, 9, 45), at(3, 10, 5), CRITICAL)], left=0.76,
    ),
    "low traffic: an upload in nine hours, three late in the week": Week(
        lambda moment: 1.0 if moment.hour == 9 else 0.0, [], uploads=every(9 * HOUR), left=-2.16
    ),
    "low traffic: two uploads an hour, a late one now and then": Week(
        lambda moment: 1.0 if moment in {at(2, 9), at(4, 13, 30)} else 0.0, [], uploads=every(30 * MINUTE)
    ),
    "low traffic: two uploads an hour, all late from 9 to 15": Week(
        between(at(2, 9), at(2, 15), 1.0), [(at(2, 10, 35), at(2, 20, 35), CRITICAL)], uploads=every(30 * MINUTE)
    ),
    "office hours: an outage until closing time; an hour without uploads spends nothing": Week(
        between(at(1, 17), at(2, 0), 1.0), [(at(1, 17, 45), at(1, 19), CRITICAL)], uploads=office_hours, left=0.6
    ),
    "a low objective that no burn rate of 14.4 could break": Week(
        between(at(2, 9), at(2, 12), 1.0), [(at(2, 9, 55), at(2, 12, 5), CRITICAL)], objective=0.9
    ),
    "three nines: a total outage of five minutes": Week(
        between(at(2, 9), at(2, 9, 5), 1.0), [(at(2, 9, 5), at(2, 15, 5), CRITICAL)], objective=0.999, left=0.5
    ),
}  # fmt: skip


def alerts_of(week: Week) -> tuple[list[tuple[datetime, datetime | None, Severity]], float]:
    """Evaluates each five minutes; older slots are hours, as rollups are."""
    promise = objective(week.objective)
    fine: list[Slot] = []
    hours: dict[datetime, Slot] = {}
    found: list[tuple[datetime, datetime | None, Severity]] = []
    moment, status = MONDAY + STEP, None
    while moment <= at(7):
        start = moment - STEP
        uploads = week.uploads(start)
        fine.append(slot(start, uploads, round(week.share(start) * uploads)))
        if len(fine) > 12 * 7:
            old = fine.pop(0)
            hour = old.start.replace(minute=0)
            before = hours.get(hour, slot(hour, 0, 0, HOUR))
            hours[hour] = slot(hour, before.total + old.total, before.bad + old.bad, HOUR)
        status = assess(promise, [*hours.values(), *fine], now=moment)
        is_open = bool(found) and found[-1][1] is None
        if not is_open and status.state is AlertState.FIRING:
            found.append((moment, None, status.severity))
        elif is_open and status.state is AlertState.QUIET:
            found[-1] = (found[-1][0], moment, found[-1][2])
        moment += STEP
    return found, status.budget_left


@pytest.mark.parametrize("week", ends_only(WEEKS.values(), ids=WEEKS))
def test_weeks(week):
    alerts, left = alerts_of(week)
    assert alerts == week.alerts
    if week.left is not None:
        assert left == pytest.approx(week.left, abs=0.01)


# --- laws

SLOTS = st.lists(
    st.builds(
        lambda ago, total, bad: slot(at(28) - timedelta(minutes=ago), total, min(bad, total)),
        st.integers(0, 40 * 1440),
        st.integers(0, 1000),
        st.integers(0, 1000),
    ),
    max_size=30,
)


@given(SLOTS, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_late_uploads_never_add_budget(slots, random):
    status = assess(objective(), slots, now=at(28))
    shuffled = random.sample(slots, len(slots))
    assert assess(objective(), shuffled, now=at(28)) == status
    worse = assess(objective(), [*slots, slot(at(28) - MINUTE, 5, 5)], now=at(28))
    assert worse.budget_left <= status.budget_left
    assert worse.bad == status.bad + 5
