"""The effective rules, and the result of `rules test`, as text and JSON values."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from enum import Enum
from typing import Any

from monitor.client.classify import StatusExplanation
from monitor.incidents.rulebook import COUNTED_PER_ITEM, EffectiveRule, Rule, counted_noun
from monitor.incidents.simulate import SimulatedCase, Simulation
from monitor.model import ITEM_CAUSES, Cause
from monitor.model.durations import format_duration
from monitor.notifications.messages import format_age
from monitor.notifications.routing import RouteOutcome, RouteStep
from monitor.notifications.texts import describe_cause, display_name, what_to_check
from monitor.reports.formatting import cut_list, fit, format_time, wrap_lines
from monitor.reports.incidents import severity_and_team


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """The rule of one cause, for one target or for all targets without their own rule."""

    target: str | None
    """None: all targets without their own row."""
    found: EffectiveRule
    sources: Mapping[str, str]
    """Field to the source of its value, such as `rules[0] in monitor.toml`; other fields are built in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleQuery:
    """The question of `rules test`."""

    status: int | None = None
    code: str | None = None
    meaning: StatusExplanation | None = None
    """How the status is classified; None if a cause was named."""
    run_every: str = ""
    sources: Mapping[str, str]
    """As in `RuleRow`."""


def opens(rule: Rule) -> str:
    """When an incident opens: `at once` or `2 of 2 runs in 1h, 3m apart`."""
    if rule.cause is Cause.SLO_BURN:
        return "by burn rate"
    if rule.cause is Cause.CHANNEL_FAILING or (rule.of == 1 and not rule.hold_for):
        return "at once"
    if rule.cause in COUNTED_PER_ITEM:
        return f"{rule.runs} of {rule.runs} runs"
    counted = counted_noun(rule.cause, rule.of)
    words = f"{rule.runs} of {rule.of} {counted} in {format_duration(rule.window)}"
    return f"{words}, {format_duration(rule.hold_for)} apart" if rule.hold_for else words


def resolves(rule: Rule) -> str:
    """When an incident resolves: `after 2 clean runs` or `when all are well`."""
    if rule.cause in ITEM_CAUSES:
        return "when all are well"
    if rule.cause is Cause.CHANNEL_FAILING:
        return "after a delivery"
    if rule.cause is Cause.SLO_BURN:
        return "when no burn-rate alert fires"
    return f"after {rule.resolve_after} clean {counted_noun(rule.cause, rule.resolve_after)}"


def rules_text(rows: Sequence[RuleRow], *, width: int | None = None) -> str:
    """A line per rule, in the order of the causes; with a column TARGET if any target has a rule of its own."""
    own = {row.found.rule.cause for row in rows if row.target is not None}
    columns: dict[str, list[object]] = {
        "CAUSE": [row.found.rule.cause.value for row in rows],
        "TARGET": [row.target or ("all others" if row.found.rule.cause in own else "all") for row in rows],
        "TEAM": [row.found.rule.team.value for row in rows],
        "SEVERITY": [row.found.rule.severity.value for row in rows],
        "OPENS": [opens(row.found.rule) for row in rows],
        "RESOLVES": [resolves(row.found.rule) for row in rows],
        "REMINDER EVERY": [format_duration(row.found.rule.repeat_interval) for row in rows],
        "BY": [row.found.rule.by.value for row in rows],
        "FROM": [_source_text(row.sources) for row in rows],
    }
    if not own:
        del columns["TARGET"]
    return fit(columns, width=width, shorten={"FROM": 10}, optional=("BY", "REMINDER EVERY", "FROM", "RESOLVES"))


def _source_text(sources: Mapping[str, str]) -> str:
    """`rules[0], rules[2] in monitor.toml`."""
    tables = defaultdict[str, dict[str, None]](dict)
    for source in sources.values():
        table, _, place = source.partition(" in ")
        tables[place][table] = None
    return "; ".join(f"{', '.join(named)} in {place}" for place, named in tables.items()) or "built in"


def rules_json(rows: Sequence[RuleRow]) -> dict[str, Any]:
    """The rules as JSON values; a null target means all targets without a row of their own."""
    return cut_list("rules", [{"target": row.target, **_rule_json(row.found.rule, row.sources)} for row in rows])


_JSON_KEYS = {"hold_for": "for"}
"""Fields whose configuration key is a Python keyword."""


def _written(value: object) -> object:
    if isinstance(value, timedelta):
        return format_duration(value)
    return value.value if isinstance(value, Enum) else value


def _rule_json(rule: Rule, sources: Mapping[str, str]) -> dict[str, Any]:
    values = {each.name: getattr(rule, each.name) for each in fields(Rule)}
    written = {_JSON_KEYS.get(name, name): _written(value) for name, value in values.items()}
    return {
        **written,
        "opens": opens(rule),
        "resolves": resolves(rule),
        "from": {_JSON_KEYS.get(name, name): source for name, source in sources.items()},
    }


def simulation_text(query: RuleQuery, simulation: Simulation | None, *, on: str) -> str:
    """The result of `rules test` on a target as text; `simulation` is None for a status about a single item."""
    if simulation is None:
        return "\n".join(_item_answer_lines(query, on))
    rule = simulation.found.rule
    lines = [f"{_subject(query, rule)} on {display_name(simulation.scenario.target, simulation.scenario.group)}"]
    lines += _fact_lines("cause", f"{rule.cause.value}: {describe_cause(rule.cause)}")
    if query.meaning is not None:
        lines += _fact_lines("why", query.meaning.explanation)
    lines += _fact_lines("rule", f"{opens(rule)}; {severity_and_team(rule.severity, rule.team)}{_by(rule)}")
    lines += _fact_lines("from", _source_text(query.sources))
    lines += _fact_lines("opens", _opening_fact(query, simulation))
    lines += _fact_lines("resolves", f"{resolves(rule)}; reminders every {format_duration(rule.repeat_interval)}")
    lines.append("What to check:")
    lines += [row for check in what_to_check(rule.cause) for row in wrap_lines(f"- {check}", indent=2)]
    for case in simulation.cases:
        lines += _case_lines(case, simulation)
    return "\n".join(lines)


def _fact_lines(label: str, text: str) -> Iterator[str]:
    yield from wrap_lines(f"{label:<9} {text}", indent=2, hang=10)


def _subject(query: RuleQuery, rule: Rule) -> str:
    if query.status is None:
        return rule.cause.value
    return f"{query.status} with the code {query.code}" if query.code else str(query.status)


def _by(rule: Rule) -> str:
    return ", one incident per group" if rule.by.value == "group" else ""


def _item_answer_lines(query: RuleQuery, on: str) -> Iterator[str]:
    meaning = query.meaning
    if meaning is None:
        raise ValueError("a cause always has a simulation")
    yield f"{query.status} on {on}"
    yield from _fact_lines("cause", "none")
    yield from _fact_lines("why", meaning.explanation)
    yield "Causes that it may lead to:"
    for cause in meaning.possible_causes:
        yield f"  ingestion-monitor rules test --cause {cause.value} --target {on}"


def _opening_fact(query: RuleQuery, simulation: Simulation) -> str:
    if simulation.found.rule.cause is Cause.CHANNEL_FAILING:
        return "as soon as the channel rejects a message, or is unreachable for 15 minutes"
    return _opening_text(simulation) + (f" ({query.run_every})" if query.run_every else "")


def _opening_text(simulation: Simulation) -> str:
    noun = counted_noun(simulation.found.rule.cause, 1)
    if simulation.found.rule.cause is Cause.SLO_BURN:
        return "at the end of the first run that finds the burn rate over its threshold"
    if simulation.opening is None:
        return "never: runs within the window are not far enough apart"
    if simulation.opening.runs == 1:
        alone = simulation.found.rule.runs > 1
        return f"at the first {noun} with evidence" + (", which is alone in the window" if alone else "")
    after = format_age(simulation.opening.after)
    return f"at the {_ordinal(simulation.opening.runs)} {noun} in a row with evidence, about {after} after the first"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _case_lines(case: SimulatedCase, simulation: Simulation) -> Iterator[str]:
    yield f"Routes{_condition_text(case)}:"
    for number, step in enumerate(case.steps):
        yield from wrap_lines(f"routes[{number}]  {_route_text(step, case)}", indent=2, hang=11)
    if not case.steps:
        yield (
            "  none: all channels are notified"
            if simulation.scenario.channels
            else "  none, and no channel: the log is used"
        )
    yield f"Notified: {', '.join(case.channels)}{_routing_note(case, simulation)}"
    if case.silence is not None:
        until = f"silence {case.silence.id} until {format_time(case.silence.ends_at)} UTC"
        sentence = f"Silenced by {until}; an incident still open then is notified at that time"
        yield from wrap_lines(sentence, indent=0)


def _routing_note(case: SimulatedCase, simulation: Simulation) -> str:
    """Why the channels differ from those of the routes, if they do."""
    if simulation.found.rule.cause is Cause.CHANNEL_FAILING:
        return " (never the failing channel itself)"
    if case.steps and not simulation.scenario.channels:
        return " (no channel is configured)"
    taken = any(step.outcome in {RouteOutcome.MATCHED, RouteOutcome.MATCHED_CONTINUE} for step in case.steps)
    return " (no route matches)" if case.steps and not taken else ""


def _condition_text(case: SimulatedCase) -> str:
    if case.condition:
        return f" {case.condition} ({case.severity.value})"
    if case.accepted is None:
        return ""
    when = "while other requests are accepted" if case.accepted else "when nothing at all is accepted"
    teams = f", {' and '.join(team.value for team in case.teams)}" if len(case.teams) > 1 else ""
    return f" {when} ({case.severity.value}{teams})"


def _route_text(step: RouteStep, case: SimulatedCase) -> str:
    if step.outcome is RouteOutcome.NOT_EVALUATED:
        return step.outcome.value
    if step.mismatch is not None:
        patterns = " or ".join(step.route.match[step.mismatch])
        return f"{step.outcome.value}: its {step.mismatch} is {_value(step.mismatch, case)}, not {patterns}"
    why = ", ".join(f"{name} {_value(name, case)}" for name in step.route.match) or "everything"
    return f"{step.outcome.value} ({why}): {', '.join(step.route.channels)}"


def _value(name: str, case: SimulatedCase) -> str:
    value = case.attributes[name]
    return value if isinstance(value, str) else ", ".join(value) or "none"


def simulation_json(query: RuleQuery, simulation: Simulation | None, *, on: str) -> dict[str, Any]:
    """The result as JSON values; `cause` is null for a status that is about a single item."""
    meaning = query.meaning
    question = {
        "status": query.status,
        "code": query.code,
        "target": on,
        "why": meaning.explanation if meaning else None,
        "possible_causes": [cause.value for cause in meaning.possible_causes] if meaning else [],
    }
    if simulation is None:
        return {**question, "cause": None}
    rule, opening = simulation.found.rule, simulation.opening
    return {
        **question,
        "group": simulation.scenario.group,
        "environment": simulation.scenario.environment,
        "cause": rule.cause.value,
        "rule": _rule_json(rule, query.sources),
        "opening": {"runs": opening.runs, "after_s": opening.after.total_seconds()} if opening else None,
        "what_to_check": list(what_to_check(rule.cause)),
        "cases": [_case_json(case) for case in simulation.cases],
    }


def _case_json(case: SimulatedCase) -> dict[str, Any]:
    return {
        "severity": case.severity.value,
        "teams": [team.value for team in case.teams],
        "accepted": case.accepted,
        "condition": case.condition or None,
        "routes": [
            {"taken": step.outcome.value, "mismatch": step.mismatch, "channels": list(step.route.channels)}
            for step in case.steps
        ],
        "channels": list(case.channels),
        "silence": case.silence.id if case.silence else None,
    }
