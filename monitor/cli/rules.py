"""`rules …`: lists the rules in force, and plays what would be done about an answer. It asks no API."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from monitor.app import build_overrides, build_routes, due_times, rules_with_sources, utcnow
from monitor.cli.session import load, print_json, print_lines, unknown_target
from monitor.client.classify import StatusExplanation, explain_status, usual_status
from monitor.config import Config, TargetConfig, format_duration
from monitor.config.fields import did_you_mean
from monitor.config.origin import origin_of
from monitor.database.engine import connect_read_only, reading
from monitor.errors import ConfigError, StoreError
from monitor.incidents import silence_store
from monitor.incidents.rulebook import EffectiveRule, effective_rules
from monitor.incidents.simulate import Scenario, Simulation, simulate
from monitor.model import ITEM_CAUSES, Cause, Silence
from monitor.notifications.texts import channel_target
from monitor.reports.rules import RuleQuery, RuleRow, rules_json, rules_text, simulation_json, simulation_text


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTestOptions:
    """What is asked, as given on the command line: about an answer, or about a cause."""

    status: int | None = None
    code: str | None = None
    cause: str | None = None
    target: str | None = None
    group: str | None = None
    environment: str | None = None
    as_json: bool = False


def listing(path: Path | None, target: str | None, *, as_json: bool) -> None:
    """Prints the rule of every cause, and those of single targets where they differ.

    Raises:
        ConfigError: there is no such target.
    """
    config = load(path)
    if target is not None:
        _require_known(config, target)
    rows = _rows(config) if target is None else _rows_of(config, target)
    if as_json:
        print_json(rules_json(rows))
    else:
        print_lines(rules_text(rows))


def _rows(config: Config) -> list[RuleRow]:
    """Of each cause the rule that is common to targets, and of single targets those that differ from it."""
    common = effective_rules([each for each in build_overrides(config.rules) if not each.targets], "")
    rules = {name: rules_with_sources(config.rules, target=name) for name in _all_subjects(config)}
    rows = []
    for cause in Cause:
        found = {name: rules[name][cause] for name in _subjects(config, cause)}
        common_rule = _common_rule(list(found.values()), common[cause])
        rows.append(_row(config, None, common_rule))
        rows += [_row(config, name, each) for name, each in found.items() if each.rule != common_rule.rule]
    return rows


def _common_rule(found: Sequence[EffectiveRule], common: EffectiveRule) -> EffectiveRule:
    """The rule without anything that is said for single targets, if any target has it; else the most frequent one."""
    counts = Counter(each.rule for each in found)
    if not found or common.rule in counts:
        return common
    ((most_common, _),) = counts.most_common(1)
    return next(each for each in found if each.rule == most_common)


def _rows_of(config: Config, target: str) -> list[RuleRow]:
    rules = rules_with_sources(config.rules, target=target)
    return [_row(config, None, rules[cause]) for cause in Cause if target in _subjects(config, cause)]


def _all_subjects(config: Config) -> list[str]:
    """All that incidents can be about."""
    return [name for cause in (Cause.OUTAGE, Cause.CHANNEL_FAILING) for name in _subjects(config, cause)]


def _subjects(config: Config, cause: Cause) -> list[str]:
    """What incidents of a cause are about: targets, or channels."""
    if cause is Cause.CHANNEL_FAILING:
        return [channel_target(channel.name) for channel in config.channels]
    return [target.name for target in config.targets]


def _row(config: Config, target: str | None, found: EffectiveRule) -> RuleRow:
    return RuleRow(target=target, found=found, sources=_sources(config, found))


def _sources(config: Config, found: EffectiveRule) -> Mapping[str, str]:
    """Field to the table that says its value and where that stands: `rules[0] in monitor.toml`."""
    return {name: f"{table} in {_table_location(config, table)}" for name, table in found.sources.items()}


def _table_location(config: Config, table: str) -> str:
    row = int(table.removeprefix("rules[").removesuffix("]"))
    return str(origin_of(("rules", row, "cause"), config.origins))


def simulate_rule(path: Path | None, query: RuleTestOptions, *, silences: Sequence[Silence] | None = None) -> None:
    """Prints what would be done about an answer or a cause.

    Args:
        path: of the configuration.
        query: what is asked.
        silences: all that are known; None: as the database has them, if it can be read.

    Raises:
        ConfigError: the question is no question.
    """
    config = load(path)
    cause, meaning, status = _cause_and_meaning(query)
    on = _subject(config, query, cause)
    simulation = (
        None
        if cause is None
        else _simulate(config, query, cause, on, _silences_in_force(config) if silences is None else silences)
    )
    asked = RuleQuery(
        status=status,
        code=query.code,
        meaning=meaning,
        run_every=_schedule_text(config, on),
        sources=_sources(config, simulation.found) if simulation else {},
    )
    if query.as_json:
        print_json(simulation_json(asked, simulation, on=on))
    else:
        print_lines(simulation_text(asked, simulation, on=on))


def _silences_in_force(config: Config) -> Sequence[Silence]:
    """The silences in force; none where the database can't be read: nothing else of the answer needs it."""
    engine = connect_read_only(config.database.reveal())
    try:
        with reading(engine) as conn:
            return silence_store.active(conn, now=utcnow())
    except StoreError:
        return ()
    finally:
        engine.dispose()


def _cause_and_meaning(query: RuleTestOptions) -> tuple[Cause | None, StatusExplanation | None, int | None]:
    """The cause that is asked about, what the answer means, and its status."""
    if query.cause is not None:
        if query.status is not None or query.code is not None:
            raise ConfigError(["--cause: give either a cause, or the --status and --code of an answer"])
        return _cause(query.cause), None, None
    status = query.status
    if status is None and query.code is not None:
        status = usual_status(query.code)
        if status is None:
            raise ConfigError([f"--code: {query.code!a} alone decides nothing; give the --status that it came with"])
    if status is None:
        raise ConfigError(["nothing is asked: give --status (and --code) of an answer, or a --cause"])
    if not 100 <= status <= 599:
        raise ConfigError([f"--status: {status} is no status of HTTP; give one from 100 to 599"])
    meaning = explain_status(status, query.code)
    return meaning.cause, meaning, status


def _cause(name: str) -> Cause:
    try:
        return Cause(name)
    except ValueError:
        known = [cause.value for cause in Cause]
        hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
        raise ConfigError([f"--cause: there is no cause {name!a}{hint}"]) from None


def _subject(config: Config, query: RuleTestOptions, cause: Cause | None) -> str:
    """The target that is asked about, or the channel."""
    if query.group is not None and cause is not None and cause not in ITEM_CAUSES:
        item_causes = ", ".join(each.value for each in ITEM_CAUSES)
        raise ConfigError([f"--group: {cause.value} is not about items, and only they have groups ({item_causes})"])
    subjects = _subjects(config, cause or Cause.OUTAGE)
    kind = "channel" if cause is Cause.CHANNEL_FAILING else "target"
    if query.target is None:
        if len(subjects) == 1:
            return subjects[0]
        choices = f"there are {', '.join(subjects)}" if subjects else "there is none: define it under [[channels]]"
        raise ConfigError([f"--target: say which {kind}; {choices}"])
    if query.target not in subjects:
        _require_known(config, query.target)
        what = cause.value if cause else "an answer"
        raise ConfigError(
            [f"--target: {what} is about a {kind}, and {query.target} is none; {_choices(kind, subjects)}"]
        )
    return query.target


def _choices(kind: str, subjects: Sequence[str]) -> str:
    return f"there are {', '.join(subjects)}" if subjects else f"there is no {kind}"


def _require_known(config: Config, name: str) -> None:
    if name not in _all_subjects(config):
        raise unknown_target(config, name)


def _simulate(config: Config, query: RuleTestOptions, cause: Cause, on: str, silences: Sequence[Silence]) -> Simulation:
    found = rules_with_sources(config.rules, target=on)[cause]
    scenario = Scenario(
        target=on,
        group=query.group or "",
        environment=query.environment or config.environment,
        routes=build_routes(config),
        channels=[channel.name for channel in config.channels],
    )
    now = utcnow()
    return simulate(found, scenario, due=_due_times(config, on, found, now), now=now, silences=silences)


_MAX_RUNS = 5000
"""Runs that a rule looks back on at the most."""


def _due_times(config: Config, on: str, found: EffectiveRule, now: datetime) -> list[datetime]:
    """When the runs are due that a rule can look at together; for a channel, of which no run is evidence, now."""
    target = _target(config, on)
    if target is None:
        return [now]
    times = due_times(config.schedule_for(target), target.name).times_after(now)
    first = next(times, now)
    in_window = takewhile(lambda time: time - first <= found.rule.window, times)
    return [first, *(time for _, time in zip(range(_MAX_RUNS), in_window, strict=False))]


def _target(config: Config, name: str) -> TargetConfig | None:
    return next((target for target in config.targets if target.name == name), None)


def _schedule_text(config: Config, on: str) -> str:
    target = _target(config, on)
    if target is None:
        return ""
    schedule = config.schedule_for(target)
    if schedule.every is not None:
        return f"a run every {format_duration(schedule.every)}"
    return f"runs by the cron expression {schedule.cron}"
