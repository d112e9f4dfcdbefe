"""The words for an objective's status, in messages, `slo` and reports. Pure; no id and none of the API's text."""

from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

from monitor.incidents.slo import BurnAlert, BurnRate, Objective, SloStatus
from monitor.model.durations import format_duration
from monitor.notifications.messages import format_age
from monitor.notifications.texts import display_group


def slo_facts(status: SloStatus) -> tuple[tuple[str, str], ...]:
    """What a message says about an objective whose alert fires, or goes on: label and value."""
    alert = status.firing[0] if status.firing else None
    burning = burn_text(status, alert) if alert else f"{rate_text(status.present_rate)}; {UNDECIDED}"
    return (
        ("objective", objective_text(status.objective)),
        ("in time", share_text(status)),
        ("error budget", budget_text(status)),
        ("burn rate", burning),
        ("budget spent", spent_text(status)),
    )


UNDECIDED = "no upload was due of late, so nothing shows a recovery"


def objective_text(objective: Objective) -> str:
    """`95% of uploads within 15m, over 28d`."""
    group = f" of the group {display_group(objective.group)}" if objective.group else ""
    within, window = format_duration(objective.within), format_duration(objective.window)
    share = percent(objective.objective, digits=_digits(objective))
    return f"{share} of uploads{group} within {within}, over {window}"


def share_text(status: SloStatus) -> str:
    """`93.2% of 2000 uploads`."""
    if status.share is None:
        return "no upload was due in the window"
    return f"{percent(status.share, digits=_digits(status.objective))} of {_uploads(status.total)}"


def budget_text(status: SloStatus) -> str:
    """`64% left: 32 more of 2000 uploads may be late`."""
    if status.share is None:
        return "100% left: no upload was due in the window"
    late = f"{_uploads(status.bad)} late, {_count(status.allowed)} allowed"
    if status.budget_left <= 0:
        return f"spent: {late}"
    return f"{percent(status.budget_left)} left: {late}"


def burn_text(status: SloStatus, alert: BurnAlert) -> str:
    """`20× over 1h, 18.3× over 5m; threshold 14.4×`."""
    long, short = status.burn_rate(alert.long), status.burn_rate(alert.short)
    threshold = format_rate(alert.threshold(status.objective))
    return f"{rate_text(long)}, {rate_text(short)}; threshold {threshold}×"


def rate_text(measured: BurnRate) -> str:
    """`18.3× over 5m`: how many times faster than the objective allows."""
    window = format_duration(measured.window)
    return f"none over {window}" if measured.rate is None else f"{format_rate(measured.rate)}× over {window}"


def spent_text(status: SloStatus) -> str:
    """`in 2 d 3 h, at the rate of the last 1h: 2026-11-30 12:00 UTC`."""
    at, rate = status.spent_at, f"at the rate of the last {format_duration(status.present_rate.window)}"
    if status.is_spent:
        return "already"
    return f"never, {rate}" if at is None else f"in {format_age(at - status.at)}, {rate}: {format_minute(at)}"


def format_minute(at: datetime) -> str:
    """`2026-11-30 12:00 UTC`."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def format_rate(rate: float) -> str:
    """A burn rate with one decimal: `14.4`, `20`, `0.1` for anything below that but above 0."""
    rounded = round(rate, 1) if rate >= 0.1 or rate == 0 else 0.1
    return f"{rounded:g}" if rounded < 1_000_000 else f"{rounded:.0f}"


def percent(share: float, *, digits: int = 1) -> str:
    """A share in percent, rounded down, so that 94.99% is no 95%; with at most so many decimals."""
    rounded = (Decimal(str(share)) * 100).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR)
    return f"{rounded.normalize():f}%"


def _digits(objective: Objective) -> int:
    """Decimals that show on which side of the objective a share is."""
    exponent = Decimal(str(objective.objective)).as_tuple().exponent
    return max(1, -int(exponent) - 1)


def _uploads(count: int) -> str:
    return "1 upload" if count == 1 else f"{count} uploads"


def _count(number: float) -> str:
    """Uploads that may be late: whole ones, or one decimal below ten."""
    return f"{int(number)}" if number >= 10 else f"{int(number * 10) / 10:g}"
