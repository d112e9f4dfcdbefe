"""A report as text for people: calm, aligned, no line longer than 80 characters."""

from collections.abc import Callable, Iterator, Sequence

from monitor.incidents.attention import attention
from monitor.incidents.render import age
from monitor.incidents.words import in_words, named_group, what_to_check
from monitor.model import Cause, Incident, ItemState, RunStatus
from monitor.report.columns import moment
from monitor.report.figures import WIDTH, plural, wrapped
from monitor.report.overview import Changes, Condition, IncidentChanges, Overview
from monitor.report.target_text import ASCII, UNICODE, Style, target_lines
from monitor.store.changes import IncidentChange, ItemsChanged, RunsMade

__all__ = ["overview_text"]

OPEN_SHOWN = 10
"""Open incidents that are told; `incidents list` has them all."""
_NAMED = 3
_LONGEST_ID = 36
_NOTHING = "Nothing was checked yet: run `ingestion-monitor check`, then this again."


def overview_text(overview: Overview, *, ascii_only: bool = False) -> str:
    """The whole report as lines.

    Args:
        overview: what there is to say.
        ascii_only: whether the stream can carry nothing but ASCII.
    """
    style = ASCII if ascii_only else UNICODE
    now, period = overview.made_at, overview.made_at - overview.start
    title = f"Report on {overview.environment}, {now:%Y-%m-%d %H:%M} UTC, over the last {age(period)}"
    blocks = [list(wrapped(title, indent=0))]
    if all(target.condition is Condition.NEVER for target in overview.targets):
        blocks.append(list(wrapped(_NOTHING, indent=0)))
    else:
        for target in overview.targets:
            name = style.cut(target.facts.target, WIDTH)
            blocks.append([name, *target_lines(target, now=now, period=period, style=style)])
        blocks += [_changed(overview, style), _incidents(overview, style)]
    blocks.append(_undelivered(overview))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _incidents(overview: Overview, style: Style) -> list[str]:
    incidents = overview.incidents
    if not incidents:
        return ["No open incidents."]
    lines = ["Open incidents"]
    for incident in incidents[:OPEN_SHOWN]:
        lines += _incident(incident, overview, style)
    more = len(incidents) - OPEN_SHOWN
    return [*lines, f"  and {more} more: `ingestion-monitor incidents list`"] if more > 0 else lines


def _incident(incident: Incident, overview: Overview, style: Style) -> Iterator[str]:
    words = in_words(incident.cause, incident.member_count)
    lasted = age(overview.made_at - incident.first_evidence_at)
    what = f"#{incident.id} {incident.cause.value} ({incident.severity.value}) on {style.cut(incident.target, 40)}"
    what += f" ({style.cut(named_group(incident.group), 30)})" if incident.group else ""
    yield from wrapped(f"{what}, for {lasted}: {words}", indent=2, hang=3)
    for sentence in attention(incident, overview.silences):
        yield from wrapped(sentence, indent=5)
    if incident.member_ids and incident.cause is not Cause.ITEMS_STUCK:  # those are in their target's own list
        yield from wrapped(f"such as {_ids(incident.member_ids, style)}", indent=5)
    yield from wrapped(f"check: {what_to_check(incident.cause)[0]}", indent=5)


def _ids(ids: Sequence[str], style: Style) -> str:
    return ", ".join(style.cut(item_id, _LONGEST_ID) for item_id in ids[:_NAMED])


def _changed(overview: Overview, style: Style) -> list[str]:
    """What changed, under the one moment since when, or else with the moment of each target."""
    told = [target for target in overview.targets if target.condition is not Condition.NEVER]
    moments = {(target.facts.changes.since, target.facts.changes.first_report) for target in told}
    lines = ["Changed since the last reports"]
    if len(moments) == 1:
        lines = [f"Changed {_since(told[0].facts.changes, overview)}"]
    for target in told:
        changes = target.facts.changes
        when = "" if len(moments) == 1 else f", {_since(changes, overview)}"
        name = style.cut(target.facts.target, 30)
        lines += wrapped(f"{name}{when}: {'; '.join(_parts(changes, style))}", indent=2)
        lines += _turns(changes.incidents, indent=4)
    return lines + _turns(overview.elsewhere, indent=2, of=lambda change: f" on {style.cut(change.target, 40)}")


def _since(changes: Changes, overview: Overview) -> str:
    if changes.first_report:
        return f"in the last {age(overview.made_at - changes.since)} (this is the first report)"
    return f"since the last report, {age(overview.made_at - changes.since)} ago ({moment(changes.since)} UTC)"


_ORDER: Sequence[tuple[str, str]] = (
    (ItemState.COMPLETED.value, "completed"),
    (ItemState.FAILED.value, "failed"),
    (ItemState.NOT_FOUND.value, "not found"),
    (ItemState.INVALID.value, "invalid"),
    ("removed", "gone from the sync log"),
    ("returned", "back in the sync log"),
)
_NAMING = frozenset({ItemState.FAILED.value, ItemState.NOT_FOUND.value, ItemState.INVALID.value, "removed"})
"""Changes whose items somebody will want to look at."""


def _parts(changes: Changes, style: Style) -> list[str]:
    parts = [_runs(changes.runs)]
    if changes.new:
        parts.append(f"{changes.new} new")
    by_kind = {each.what: each for each in changes.items}
    parts += [_items(by_kind[what], words, style) for what, words in _ORDER if what in by_kind]
    if changes.stuck:
        parts.append(f"{changes.stuck} became stuck")
    return parts if len(parts) > 1 or changes.runs is None else [*parts, "no item changed"]


def _runs(made: RunsMade | None) -> str:
    if made is None:
        return "no run"
    others = [f"{count} {status.value}" for status, count in made.by_status.items() if status is not RunStatus.COMPLETE]
    return plural(sum(made.by_status.values()), "run") + (f" ({', '.join(sorted(others))})" if others else "")


def _items(changed: ItemsChanged, words: str, style: Style) -> str:
    if changed.what not in _NAMING:
        return f"{changed.count} {words}"
    more = changed.count - min(_NAMED, len(changed.sample_ids))
    return f"{changed.count} {words} ({_ids(changed.sample_ids, style)}{f' and {more} more' if more else ''})"


def _turns(changes: IncidentChanges, *, indent: int, of: Callable[[IncidentChange], str] = lambda _: "") -> list[str]:
    """A line per incident; `of` says whose it is, where that is not clear."""
    lines: list[str] = []
    for change in changes.newest:
        happened = " and ".join(change.kinds)
        lines += wrapped(f"#{change.id} {change.cause.value}{of(change)} {happened}", indent=indent)
    more = changes.total - len(changes.newest)
    return [*lines, f"{' ' * indent}and {plural(more, 'more incident')}"] if more > 0 else lines


def _undelivered(overview: Overview) -> list[str]:
    said = [f"{each.dead} to {each.channel} given up" for each in overview.undelivered if each.dead]
    said += [f"{each.waiting} to {each.channel} waiting" for each in overview.undelivered if each.waiting]
    return list(wrapped(f"Undelivered messages: {', '.join(said)}.", indent=0)) if said else []
