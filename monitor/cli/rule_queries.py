"""The rules in force for targets and channels, the simulation of one answer or cause, and what a backtest replays. It
prints nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.app import build_overrides, build_routes, rules_with_sources, utcnow
from monitor.cli.session import unknown_target
from monitor.client.classify import StatusExplanation, explain_status, usual_status
from monitor.config import Config, TargetConfig, load_config
from monitor.config.candidate import load_candidate
from monitor.config.fields import did_you_mean
from monitor.config.origin import origin_of
from monitor.database.engine import connect_read_only, reading
from monitor.errors import ConfigError, StoreError
from monitor.incidents import silence_store
from monitor.incidents.rulebook import COUNTED_PER_ITEM, EffectiveRule, effective_rules
from monitor.incidents.simulate import Scenario, Simulation, simulate
from monitor.model import ITEM_CAUSES, Cause, Silence
from monitor.model.durations import format_duration
from monitor.model.incidents import RENAMED
from monitor.notifications.texts import channel_target
from monitor.reports.backtest import BacktestView
from monitor.reports.rules import RuleQuery, RuleRow

if TYPE_CHECKING:
    from monitor.app.backtest import BacktestResult


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


def simulate_answer(
    config: Config,
    *,
    status: int | None = None,
    code: str | None = None,
    cause: str | None = None,
    target: str | None = None,
    group: str | None = None,
    environment: str | None = None,
    silences: Sequence[Silence] | None = None,
) -> tuple[RuleQuery, Simulation | None, str]:
    """The query as understood, its simulation (None if the answer has no cause by itself), and the target.

    A query is an answer (`status`, `code`) or a `cause`; `target` may be `channel:NAME`. Defaults: the usual status of
    the code, the only target, the configured environment, and the silences in force, if the database can be read.
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
            routes=build_routes(config),
            channels=[channel.name for channel in config.channels],
        )
        now = utcnow()
        in_force = _silences_in_force(config) if silences is None else silences
        simulation = simulate(rule, scenario, due=_due_times(config, on, rule, now), now=now, silences=in_force)
    query = RuleQuery(
        status=status,
        code=code,
        meaning=meaning,
        run_every=_schedule_text(config, on),
        sources=_sources(config, simulation.found) if simulation else {},
    )
    return query, simulation, on


def _silences_in_force(config: Config) -> Sequence[Silence]:
    """The silences in force; none if the database can't be read: nothing else in the answer needs it."""
    engine = connect_read_only(config.database.reveal())
    try:
        with reading(engine) as conn:
            return silence_store.active(conn, now=utcnow())
    except StoreError:
        return ()
    finally:
        engine.dispose()


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
        raise unknown_target(config, name)


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


def candidate_rules(path: Path | None, rules: Path) -> Config:
    """The configuration with the rules and routes of a file in place of its own.

    `path` is that of the configuration, as given. Raises ConfigError with every problem of the file.
    """
    return load_candidate(rules, lambda settings: load_config(path, overrides=settings))


def backtest_view(result: "BacktestResult", config: Config, candidate: Config, rules: Path | None) -> BacktestView:
    """The result of a backtest with the words for its rules; `rules` is the file with candidates, if any."""
    found = result.found
    return BacktestView(
        since=found.since,
        until=found.until,
        targets=result.targets,
        rules=_rules_text(config, candidate, rules),
        runs=found.runs,
        evidence=found.evidence,
        incidents=found.incidents,
        not_replayed=found.not_replayed,
        people=found.people,
        inexact=result.inexact,
    )


def _rules_text(config: Config, candidate: Config, rules: Path | None) -> str:
    """Where rules and routes come from: `stricter.toml, in place of 2 [[rules]] as configured`."""
    if rules is None:
        return "as configured"
    sentences = []
    for table, before, after in (("rules", config.rules, candidate.rules), ("routes", config.routes, candidate.routes)):
        if before == after:
            sentences.append(f"[[{table}]] as configured")
        else:
            replaced = f", in place of {len(before)} as configured" if before else ""
            sentences.append(f"{len(after)} [[{table}]] of {rules.name}{replaced}")
    return "; ".join(sentences)
