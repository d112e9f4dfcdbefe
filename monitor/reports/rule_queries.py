"""The rules in force for targets and channels, and the simulation of one answer or cause. It queries no database."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice, takewhile

from monitor.client.classify import StatusExplanation, explain_status, usual_status
from monitor.config import Config, TargetConfig
from monitor.config.fields import did_you_mean
from monitor.config.origin import origin_of
from monitor.config.rules import build_overrides, build_routes, rules_with_sources
from monitor.errors import ConfigError
from monitor.incidents.rulebook import COUNTED_PER_ITEM, EffectiveRule, effective_rules
from monitor.incidents.simulate import Scenario, Simulation, simulate
from monitor.model import ITEM_CAUSES, Cause, Silence
from monitor.model.durations import format_duration
from monitor.model.incidents import RENAMED
from monitor.notifications.texts import channel_target
from monitor.reports.names import no_such_target
from monitor.reports.rules import RuleQuery, RuleRow


def rule_rows(config: Config, target: str | None) -> list[RuleRow]:
    """The rule of every cause; without a target, also those of single targets that differ from it.

    Raises ConfigError if there is no such target.
    """
    if target is None:
        return _rows(config)
    _require_known(config, target)
    rules = rules_with_sources(config.rules, target=target)
    return [_row(config, None, rules[cause]) for cause in Cause if target in _subjects(config, cause)]


def _rows(config: Config) -> list[RuleRow]:
    """Of each cause the rule that targets share, then those of single targets that differ."""
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
    """The rule without settings for single targets, if any target has it; else the most frequent one."""
    counts = Counter(each.rule for each in found)
    if not found or common.rule in counts:
        return common
    ((most_common, _),) = counts.most_common(1)
    return next(each for each in found if each.rule == most_common)


def _all_subjects(config: Config) -> list[str]:
    """All targets and channels that incidents can be about."""
    return [name for cause in (Cause.OUTAGE, Cause.CHANNEL_FAILING) for name in _subjects(config, cause)]


def _subjects(config: Config, cause: Cause) -> list[str]:
    """The targets, or channels, that incidents of a cause can be about."""
    if cause is Cause.CHANNEL_FAILING:
        return [channel_target(channel.name) for channel in config.channels]
    return [target.name for target in config.targets]


def _row(config: Config, target: str | None, found: EffectiveRule) -> RuleRow:
    return RuleRow(target=target, found=found, sources=_sources(config, found))


def _sources(config: Config, found: EffectiveRule) -> Mapping[str, str]:
    """Field to the table that sets it, and its place: `rules[0] in monitor.toml`."""
    return {name: f"{table} in {_table_location(config, table)}" for name, table in found.sources.items()}


def _table_location(config: Config, table: str) -> str:
    row = int(table.removeprefix("rules[").removesuffix("]"))
    return str(origin_of(("rules", row, "cause"), config.origins))


def simulate_answer(  # noqa: PLR0913  # the options of the command, each named at the call
    config: Config,
    *,
    status: int | None = None,
    code: str | None = None,
    cause: str | None = None,
    target: str | None = None,
    group: str | None = None,
    environment: str | None = None,
    silences: Callable[[], Sequence[Silence]],
    now: datetime,
) -> tuple[RuleQuery, Simulation | None, str]:
    """The query as understood, its simulation (None if the answer has no cause by itself), and the target.

    A query is an answer (`status`, `code`) or a `cause`; `target` may be `channel:NAME`. Defaults: the usual status of
    the code, the only target, and the configured environment. `silences` returns those in force at `now`; it is not
    called if the query is wrong.
    Raises ConfigError if the query is incomplete or contradicts itself.
    """
    found_cause, meaning, status = _cause_and_meaning(status, code, cause)
    on = _subject(config, target, group, found_cause)
    simulation = None
    if found_cause is not None:
        rule = rules_with_sources(config.rules, target=on)[found_cause]
        scenario = Scenario(
            target=on,
            group=group or "",
            environment=environment or config.environment,
            routes=build_routes(config.routes),
            channels=[channel.name for channel in config.channels],
        )
        simulation = simulate(rule, scenario, due=_due_times(config, on, rule, now), now=now, silences=silences())
    query = RuleQuery(
        status=status,
        code=code,
        meaning=meaning,
        run_every=_schedule_text(config, on),
        sources=_sources(config, simulation.found) if simulation else {},
    )
    return query, simulation, on


def _cause_and_meaning(
    status: int | None, code: str | None, cause: str | None
) -> tuple[Cause | None, StatusExplanation | None, int | None]:
    """The cause, what the answer means, and its status."""
    if cause is not None:
        if status is not None or code is not None:
            raise ConfigError(["--cause: give either a cause, or the --status and --code of an answer"])
        return _cause(cause), None, None
    if status is None and code is not None:
        status = usual_status(code)
        if status is None:
            raise ConfigError([f"--code: {code!a} alone has no meaning; give the --status that it came with"])
    if status is None:
        raise ConfigError(["nothing to simulate: give --status (and --code) of an answer, or a --cause"])
    if not 100 <= status <= 599:
        raise ConfigError([f"--status: {status} is no HTTP status; give one from 100 to 599"])
    meaning = explain_status(status, code)
    return meaning.cause, meaning, status


def _cause(name: str) -> Cause:
    try:
        return Cause(name)
    except ValueError:
        if name in RENAMED:
            raise ConfigError([f"--cause: {name} is now called {RENAMED[name]}: rename it"]) from None
        known = [cause.value for cause in Cause]
        hint = did_you_mean(name, known) or f"; choose from {', '.join(known)}"
        raise ConfigError([f"--cause: there is no cause {name!a}{hint}"]) from None


def _subject(config: Config, target: str | None, group: str | None, cause: Cause | None) -> str:
    """The target of the query, or the channel."""
    if group is not None and cause is not None and cause not in ITEM_CAUSES:
        item_causes = ", ".join(each.value for each in ITEM_CAUSES)
        raise ConfigError([f"--group: {cause.value} is not about items, and only they have groups ({item_causes})"])
    subjects = _subjects(config, cause or Cause.OUTAGE)
    kind = "channel" if cause is Cause.CHANNEL_FAILING else "target"
    if target is None:
        if len(subjects) == 1:
            return subjects[0]
        choices = f"choose from {', '.join(subjects)}" if subjects else "there is none: define it under [[channels]]"
        raise ConfigError([f"--target: name the {kind}; {choices}"])
    if target not in subjects:
        _require_known(config, target)
        what = cause.value if cause else "an answer"
        raise ConfigError([f"--target: {what} is about a {kind}, and {target} is none; {_choices(kind, subjects)}"])
    return target


def _choices(kind: str, subjects: Sequence[str]) -> str:
    return f"choose from {', '.join(subjects)}" if subjects else f"there is no {kind}"


def _require_known(config: Config, name: str) -> None:
    if name not in _all_subjects(config):
        raise ConfigError([f"--target: {no_such_target(config, name)}"])


_MAX_RUNS = 5000
"""At most so many runs of a rule's window are simulated."""


def _due_times(config: Config, on: str, found: EffectiveRule, now: datetime) -> list[datetime]:
    """The due times of the runs in a rule's window; for a channel, which needs no run, now."""
    target = _target(config, on)
    if target is None:
        return [now]
    times = config.schedule_for(target).due_times(target.name).times_after(now)
    first = next(times, now)
    in_any_window = found.rule.runs - 1 if found.rule.cause in COUNTED_PER_ITEM else 0
    counted = takewhile(
        lambda numbered: numbered[0] < in_any_window or numbered[1] - first <= found.rule.window,
        enumerate(islice(times, _MAX_RUNS)),
    )
    return [first, *(time for _, time in counted)]


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
