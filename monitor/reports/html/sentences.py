"""The sentences of charts: each says in words what its chart shows. Pure."""

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from monitor.incidents.slo import SloStatus
from monitor.incidents.slo_texts import budget_text, burn_text, rate_text, spent_text
from monitor.model import ItemState, RunStatus
from monitor.reports.formatting import format_share, plural
from monitor.reports.html.marks import time_tag
from monitor.reports.indexing import IndexingReport
from monitor.reports.overview import TrendLine
from monitor.reports.trends import ReasonCount, StageCount
from monitor.runs.store import HistoryRow

_STEADY = 0.005
"""A change of a share by less than this is none."""
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def time_unit(longest: float) -> tuple[int, str]:
    """Seconds and name of the unit in which durations up to `longest` (in seconds) are small numbers."""
    return next((unit for unit in _UNITS if longest >= 2 * unit[0]), _UNITS[-1])


def rounded_duration(seconds: float) -> str:
    """A duration in two digits of its greatest unit: `45 s`, `2.5 min`, `12 h`."""
    unit, name = next((unit for unit in _UNITS if seconds >= unit[0]), _UNITS[-1])
    number = seconds / unit
    return f"{number:.0f} {name}" if number >= 10 else f"{number:.2g} {name}"


def completed_sentence(samples: Sequence[HistoryRow | None]) -> Markup:
    """How the completed share changed: since when it is lower, or when it was lowest."""
    known = [(row, row.snapshot.completed / row.snapshot.total) for row in samples if row and row.snapshot.total]
    if not known:
        return Markup("No item is tracked yet.")
    last_row, last = known[-1]
    failed = last_row.snapshot.failed
    tail = Markup("; {} failed").format(plural(failed, "item")) if failed else Markup("")
    return _share_words(known, last) + tail + Markup(".")


def _share_words(known: Sequence[tuple[HistoryRow, float]], last: float) -> Markup:
    shares = [share for _, share in known]
    highest, lowest = max(shares), min(shares)
    if highest - last > _STEADY:
        turned = max(n for n, share in enumerate(shares) if share >= highest - _STEADY)
        return Markup("Completed fell from {} to {} since {}").format(
            format_share(highest), format_share(last), time_tag(known[turned + 1][0].started_at)
        )
    if last - lowest > _STEADY:
        turned = shares.index(lowest)
        if max(shares[:turned], default=lowest) - lowest > _STEADY:
            return Markup("Completed was down to {} at {} and is back at {}").format(
                format_share(lowest), time_tag(known[turned][0].started_at), format_share(last)
            )
        return Markup("Completed rose from {} to {} since {}").format(
            format_share(lowest), format_share(last), time_tag(known[turned][0].started_at)
        )
    return Markup("Completed is steady at {}").format(format_share(last))


def states_sentence(samples: Sequence[HistoryRow | None], endings: Sequence[Mapping[RunStatus, int]] = ()) -> Markup:
    """What is not completed now, the most it ever was, and how many runs did not complete."""
    known = [row for row in samples if row is not None]
    cut_short = sum(sum(each.values()) for each in endings)
    tail = Markup(" {} not complete.").format(plural(cut_short, "run did", "runs did")) if cut_short else Markup("")
    if not known:
        return Markup("No run stored results in this period.") + tail
    now = known[-1].snapshot
    parts = [
        f"{now.count(state)} {state.label}"
        for state in ItemState
        if state is not ItemState.COMPLETED and now.count(state)
    ]
    stuck = Markup(", {} of them stuck").format(now.stuck) if now.stuck else Markup("")
    words = (
        Markup("{} of {} are not completed: {}{}.").format(
            now.total - now.completed, plural(now.total, "item"), ", ".join(parts), stuck
        )
        if parts
        else Markup("All {} are completed.").format(plural(now.total, "item"))
        if now.total
        else Markup("No item is tracked.")
    )
    peak = max(known, key=lambda row: row.snapshot.total - row.snapshot.completed)
    most = peak.snapshot.total - peak.snapshot.completed
    if most > now.total - now.completed:
        words += Markup(" At most {} were not, at {}.").format(most, time_tag(peak.started_at))
    return words + tail


def indexing_sentence(report: IndexingReport) -> Markup:
    """The quantiles of the whole period, and what is not indexed."""
    times = report.times
    half, most = times.quantile_s(0.5), times.quantile_s(0.95)
    if half is None or most is None:
        return Markup("No upload of this period is indexed yet.")
    words = Markup("Half of {} were indexed within {}, 95% within {}").format(
        plural(times.indexed, "upload"), rounded_duration(half), rounded_duration(most)
    )
    others = [(times.waiting, "not indexed yet"), (times.failed, "failed"), (times.not_observed, "at an unknown time")]
    named = [f"{count} {what}" for count, what in others if count]
    return words + (Markup("; {}.").format(", ".join(named)) if named else Markup("."))


def stages_sentence(stages: Sequence[StageCount], count: int) -> Markup:
    """Where most of the unfinished items are."""
    pending = [each for each in stages if each.state is ItemState.PENDING]
    most = max(pending, key=lambda each: each.items, default=None)
    if most is None:
        words = Markup("No item is in process.")
    else:
        total = sum(each.items for each in pending)
        where = Markup("in the stage {}").format(most.stage) if most.stage else Markup("without a status")
        share = f": {most.items} of them" if most.items < total else ", all" if total > 1 else ","
        words = Markup("{} in process{} {}.").format(plural(total, "item is", "items are"), share, where)
    return words + _not_shown(count - len(stages), "rarer stage")


def reasons_sentence(reasons: Sequence[ReasonCount], count: int) -> Markup:
    """The most frequent reason."""
    total, first = sum(each.items for each in reasons), reasons[0]
    why = Markup("with the reason {}").format(first.reason) if first.reason else "without a reason from the API"
    words = Markup("{} of {} failed {}.").format(first.items, plural(total, "item"), why)
    return words + _not_shown(count - len(reasons), "rarer reason")


def _not_shown(left: int, noun: str) -> Markup:
    if left <= 0:
        return Markup("")
    return Markup(" {} not shown.").format(plural(left, f"{noun} is", f"{noun}s are"))


def level_sentence(line: TrendLine, words: Markup, shown: Callable[[float], str]) -> Markup:
    """A value as of now, and the range in which it was; `words` has a place for the value."""
    now = words.format(shown(line.last))
    if shown(line.low) == shown(line.high):
        return now + Markup(", as in the whole period.")
    return now + Markup("; in this period {} to {}.").format(shown(line.low), shown(line.high))


def budget_sentence(statuses: Sequence[SloStatus]) -> Markup:
    """The objective with the least budget left."""
    worst = min(statuses, key=lambda status: status.budget_left)
    return Markup("Objective {}: {}; spent {}.").format(worst.objective.name, budget_text(worst), spent_text(worst))


def burn_sentence(statuses: Sequence[SloStatus]) -> Markup:
    """The alert that fires, or the rate of now."""
    firing = next((status for status in statuses if status.firing), None)
    if firing is not None:
        return Markup("Objective {} burns too fast: {}.").format(
            firing.objective.name, burn_text(firing, firing.firing[0])
        )
    fastest = max(statuses, key=lambda status: status.present_rate.rate or 0.0)
    return Markup("No objective burns too fast; {} burns {}.").format(
        fastest.objective.name, rate_text(fastest.present_rate)
    )
