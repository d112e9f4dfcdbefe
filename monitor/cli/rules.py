"""`rules …`: lists the rules in force, and plays what would be done about an answer. It asks no API."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from monitor.app import due_times, build_overrides, build_routes, rules_with_sources, utcnow
from monitor.cli.session import load, print_json, print_lines, unknown_target
from monitor.client.classify import Meaning, meaning_of, usual_status
from monitor.config import Config, TargetConfig, format_duration
from monitor.config.fields import did_you_mean
from monitor.config.origin import origin_of
from monitor.database.engine import connect_read_only, reading
from monitor.errors import ConfigError, StoreError
from monitor.incidents import silence_store
from monitor.incidents.rulebook import EffectiveRule, effective_rules
from monitor.incidents.simulate import Simulation, Scenario, simulate
from monitor.model import ITEM_CAUSES, Cause, Silence
from monitor.notifications.texts import channel_target
from monitor.reports.rules import Asked, RuleRow, rehearsal_json, rehearsal_text, rules_json, rules_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
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
        _known(config, target)
    rows = _rows(config) if target is None else _rows_of(config, target)
    if as_json:
        print_json(rules_json(rows))
    else:
        print_lines(rules_text(rows))


def _rows(config: Config) -> list[RuleRow]:
    """Of each cause the rule that is common to targets, and of single targets those that differ from it."""
    common = effective_rules([each for each in build_overrides(config.rules) if not each.targets], "")
    rules = {name: rules_with_sources(config.rules, target=name) for name in _names(config)}
    rows = []
    for cause in Cause:
        found = {name: rules[name][cause] for name in _watched(config, cause)}
        shared = _shared(list(found.values()), common[cause])
        rows.append(_row(config, None, shared))
        rows += [_row(config, name, each) for name, each in found.items() if each.rule != shared.rule]
    return rows


def _shared(found: Sequence[EffectiveRule], common: EffectiveRule) -> EffectiveRule:
    """The rule without anything that is said for single targets, if any target has it; else the most frequent one."""
    counts = Counter(each.rule for each in found)
    if not found or common.rule in counts:
        return common
    ((most, _),) = counts.most_common(1)
    return next(each for each in found if each.rule == most)


def _rows_of(config: Config, target: str) -> list[RuleRow]:
    rules = rules_with_sources(config.rules, target=target)
    return [_row(config, None, rules[cause]) for cause in Cause if target in _watched(config, cause)]


def _names(config: Config) -> list[str]:
    """All that incidents can be about."""
    return [name for cause in (Cause.OUTAGE, Cause.CHANNEL_FAILING) for name in _watched(config, cause)]


def _watched(config: Config, cause: Cause) -> list[str]:
    """What incidents of a cause are about: targets, or channels."""
    if cause is Cause.CHANNEL_FAILING:
        return [channel_target(channel.name) for channel in config.channels]
    return [target.name for target in config.targets]


def _row(config: Config, target: str | None, found: EffectiveRule) -> RuleRow:
    return RuleRow(target=target, found=found, sources=_sources(config, found))


def _sources(config: Config, found: EffectiveRule) -> Mapping[str, str]:
    """Field to the table that says its value and where that stands: `rules[0] in monitor.toml`."""
    return {name: f"{table} in {_place(config, table)}" for name, table in found.sources.items()}


def _place(config: Config, table: str) -> str:
    row = int(table.removeprefix("rules[").removesuffix("]"))
    return str(origin_of(("rules", row, "cause"), config.origins))


def play(path: Path | None, question: Question, *, silences: Sequence[Silence] | None = None) -> None:
    """Prints what would be done about an answer or a cause.

    Args:
        path: of the configuration.
        question: what is asked.
        silences: all that are known; None: as the database has them, if it can be read.

    Raises:
        ConfigError: the question is no question.
    """
    config = load(path)
    cause, meaning, status = _asked_about(question)
    on = _where(config, question, cause)
    played = (
        None
        if cause is None
        else _played(config, question, cause, on, _known_silences(config) if silences is None else silences)
    )
    asked = Asked(
        status=status,
        code=question.code,
        meaning=meaning,
        run_every=_rhythm(config, on),
        sources=_sources(config, played.found) if played else {},
    )
    if question.as_json:
        print_json(rehearsal_json(asked, played, on=on))
    else:
        print_lines(rehearsal_text(asked, played, on=on))


def _known_silences(config: Config) -> Sequence[Silence]:
    """The silences in force; none where the database can't be read: nothing else of the answer needs it."""
    engine = connect_read_only(config.database.reveal())
    try:
        with reading(engine) as conn:
            return silence_store.active(conn, now=utcnow())
    except StoreError:
        return ()
    finally:
        engine.dispose()


def _asked_about(question: Question) -> tuple[Cause | None, Meaning | None, int | None]:
    """The cause that is asked about, what the answer means, and its status."""
    if question.cause is not None:
        if question.status is not None or question.code is not None:
            raise ConfigError(["--cause: give either a cause, or the --status and --code of an answer"])
        return _cause(question.cause), None, None
    status = question.status
    if status is None and question.code is not None:
        status = usual_status(question.code)
        if status is None:
            raise ConfigError([f"--code: {question.code!a} alone decides nothing; give the --status that it came with"])
    if status is None:
        raise ConfigError(["nothing is asked: give --status (and --code) of an answer, or a --cause"])
    if not 100 <= status <= 599:
        raise ConfigError([f"--status: {status} is no status of HTTP; give one from 100 to 599"])
    meaning = meaning_of(status, question.code)
    return meaning.cause, meaning, status


def _cause(name: str) -> Cause:
    try:
        return Cause(name)
    except ValueError:
        known = [cause.value for cause in Cause]
        near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
        raise ConfigError([f"--cause: there is no cause {name!a}{near}"]) from None


def _where(config: Config, question: Question, cause: Cause | None) -> str:
    """The target that is asked about, or the channel."""
    if question.group is not None and cause is not None and cause not in ITEM_CAUSES:
        theirs = ", ".join(each.value for each in ITEM_CAUSES)
        raise ConfigError([f"--group: {cause.value} is not about items, and only they have groups ({theirs})"])
    there = _watched(config, cause or Cause.OUTAGE)
    kind = "channel" if cause is Cause.CHANNEL_FAILING else "target"
    if question.target is None:
        if len(there) == 1:
            return there[0]
        which = f"there are {', '.join(there)}" if there else "there is none: define it under [[channels]]"
        raise ConfigError([f"--target: say which {kind}; {which}"])
    if question.target not in there:
        _known(config, question.target)
        what = cause.value if cause else "an answer"
        raise ConfigError([f"--target: {what} is about a {kind}, and {question.target} is none; {_list(kind, there)}"])
    return question.target


def _list(kind: str, there: Sequence[str]) -> str:
    return f"there are {', '.join(there)}" if there else f"there is no {kind}"


def _known(config: Config, name: str) -> None:
    if name not in _names(config):
        raise unknown_target(config, name)


def _played(config: Config, question: Question, cause: Cause, on: str, silences: Sequence[Silence]) -> Simulation:
    found = rules_with_sources(config.rules, target=on)[cause]
    scenario = Scenario(
        target=on,
        group=question.group or "",
        environment=question.environment or config.environment,
        routes=build_routes(config),
        channels=[channel.name for channel in config.channels],
    )
    now = utcnow()
    return simulate(found, scenario, due=_due(config, on, found, now), now=now, silences=silences)


_MOST_RUNS = 5000
"""Runs that a rule looks back on at the most."""


def _due(config: Config, on: str, found: EffectiveRule, now: datetime) -> list[datetime]:
    """When the runs are due that a rule can look at together; for a channel, of which no run is evidence, now."""
    target = _target(config, on)
    if target is None:
        return [now]
    times = due_times(config.schedule_for(target), target.name).times_after(now)
    first = next(times, now)
    inside = takewhile(lambda time: time - first <= found.rule.window, times)
    return [first, *(time for _, time in zip(range(_MOST_RUNS), inside, strict=False))]


def _target(config: Config, name: str) -> TargetConfig | None:
    return next((target for target in config.targets if target.name == name), None)


def _rhythm(config: Config, on: str) -> str:
    target = _target(config, on)
    if target is None:
        return ""
    schedule = config.schedule_for(target)
    if schedule.every is not None:
        return f"a run every {format_duration(schedule.every)}"
    return f"runs by the cron expression {schedule.cron}"
