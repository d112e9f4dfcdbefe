"""Configuration errors as sentences that start with the key or variable. Pure. No sentence quotes a possible secret."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from monitor.config.channel_settings import CHANNEL_TAG, CHANNEL_TYPES, UnknownChannelConfig
from monitor.config.fields import did_you_mean, invalid_choice, quote_name, replace_unprintable
from monitor.config.origin import Loc
from monitor.config.rules import RuleConfig
from monitor.config.schedule import ScheduleConfig
from monitor.config.schema import Config
from monitor.config.section import Remedy, find_field, nested_models, secret_fields
from monitor.config.slos import SloConfig
from monitor.incidents.rulebook import EffectiveRule, Override, RuleProblem, effective_rules, rule_problem
from monitor.model import Cause
from monitor.model.durations import format_duration
from monitor.model.incidents import RENAMED
from monitor.notifications.routing import LOG_CHANNEL
from monitor.notifications.texts import channel_target

_Row = TypeVar("_Row", bound=BaseModel)

_TAG_PREFIXES = ("auth:", CHANNEL_TAG)
"""Parts that pydantic adds to a location where a setting has several forms."""

_ALERT_TYPES = frozenset(name for name, model in CHANNEL_TYPES.items() if not model.takes_reports)

_PREDICATES = {
    "bool": "must be true or false",
    "dict": "must be a table",
    "float": "must be a number",
    "greater_than_equal": "must be {ge} or more",
    "int": "must be a whole number",
    "less_than_equal": "must be {le} or less",
    "mapping": "must be a table",
    "model": "must be a table",
    "string_pattern_mismatch": "must be 1 to 100 letters, digits, dots, underscores and hyphens",
    "string_too_long": "must be at most {max_length} characters long",
    "string": "must be text in quotes",
    "tuple": "must be a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One configuration error; `predicate` is the text after the key: "must be …", "is missing: …"."""

    loc: Loc
    predicate: str


def translate_errors(error: ValidationError) -> list[Problem]:
    """Every error of a validation, in our words and without the input."""
    # a default that depends on another, invalid setting is not a separate error
    reported = [each for each in error.errors(include_url=False) if each["type"] != "default_factory_not_called"]
    found = [_translate_error(each) for each in reported]
    parents = {problem.loc[:length] for problem in found for length in range(len(problem.loc))}
    # a list is also "too short" when its only element is wrong
    return [problem for problem in found if not (problem.loc in parents and problem.predicate.startswith("is missing"))]


def find_reference_errors(data: Mapping[str, object]) -> list[Problem]:
    """Duplicate names and undefined channels. It reads unvalidated data, so that other errors hide none of these."""
    named = (problem for table in ("targets", "channels", "slos") for problem in _duplicate_names(data, table))
    return [*named, *_undefined_channels(data), *_report_channels(data)]


def find_unopenable_rules(data: Mapping[str, object]) -> list[Problem]:
    """Rules that could never open an incident on a configured target or channel, from unvalidated data."""
    rows = data.get("rules", [])
    try:
        rules = [RuleConfig.model_validate(row) for row in rows] if isinstance(rows, list) else []
    except ValidationError:
        return []
    overrides = [rule.to_override(position) for position, rule in enumerate(rules)]
    targets = [name for _, name in _named_rows(data, "targets")]
    channels = [channel_target(name) for _, name in _named_rows(data, "channels")]
    failing = {Cause.CHANNEL_FAILING}
    found = (*_unopenable(overrides, targets, set(Cause) - failing), *_unopenable(overrides, channels, failing))
    return list(dict.fromkeys(found))


def find_unmeasurable_slos(data: Mapping[str, object]) -> list[Problem]:
    """Objectives whose `within` is shorter than the time between two runs: every upload would look late."""
    found = []
    for row, slo in _valid_rows(data, "slos", SloConfig):
        for name, schedule in _explicit_schedules(data):
            between = schedule.shortest_interval
            if slo.applies_to(name) and between is not None and between > slo.within:
                predicate = (
                    f"is shorter than the time between two runs of {name} ({format_duration(between)}), so that every "
                    "upload would look late: raise it, or run more often"
                )
                found.append(Problem(loc=("slos", row, "within"), predicate=predicate))
    return found


def find_workers_without_server(config: Config) -> list[Problem]:
    """Workers on SQLite: processes on several machines can't share a file."""
    if not (config.fleet.workers and config.database.reveal().startswith("sqlite:")):
        return []
    predicate = 'needs PostgreSQL as the monitor\'s database: set database = "postgresql://…", or remove it'
    return [Problem(loc=("fleet", "workers"), predicate=predicate)]


def _explicit_schedules(data: Mapping[str, object]) -> Iterator[tuple[str, ScheduleConfig]]:
    """The targets whose schedule is written down, and their schedules, from unvalidated data."""
    for _, target in _table_rows(data, "targets"):
        name, raw = target.get("name"), target.get("schedule") or data.get("schedule")
        try:
            schedule = ScheduleConfig.model_validate(raw or {})
        except ValidationError:
            continue  # reported by the validation of the whole
        if isinstance(name, str) and schedule.explicit:
            yield name, schedule


def _valid_rows(data: Mapping[str, object], table: str, model: type[_Row]) -> Iterator[tuple[int, _Row]]:
    """The rows of a table that are valid by themselves; the others are reported by the validation of the whole."""
    for position, row in _table_rows(data, table):
        try:
            yield position, model.model_validate(row)
        except ValidationError:
            continue


def format_problems(problems: Iterable[Problem], data: Mapping[str, object], variables: Mapping[Loc, str]) -> list[str]:
    """The problems as sentences; `data` has the names, `variables` are of settings that were not written as a key."""
    return [f"{_format_key(problem, data, variables)} {problem.predicate}" for problem in problems]


def known_keys(loc: Loc, channel: str | None = None) -> tuple[str, ...]:
    """The valid keys of the table that contains `loc`; of a channel, those of its type, or of all types if None."""
    models: tuple[type[BaseModel], ...] = (Config,)
    for part in loc[:-1]:
        if isinstance(part, str):
            fields = [field for model in models if (field := find_field(model, part))]
            inner = tuple(model for field in fields for model in nested_models(field.annotation))
            models = _models_of_type(inner, channel)
    names = [field.alias or name for model in models for name, field in model.model_fields.items()]
    return tuple(dict.fromkeys((*names, *(f"{name}_file" for model in models for name in secret_fields(model)))))


def _translate_error(error: ErrorDetails) -> Problem:
    loc = tuple(part for part in error["loc"] if not (isinstance(part, str) and part.startswith(_TAG_PREFIXES)))
    tags = [part for part in map(str, error["loc"]) if part.startswith(CHANNEL_TAG)]
    channel = tags[0].removeprefix(CHANNEL_TAG) if tags else ""
    context = error.get("ctx", {})
    kind = error["type"]
    if loc[-1:] == ("[key]",) and kind == "invalid_value":
        loc = loc[:-1]
    elif loc[-1:] == ("[key]",):
        return Problem(loc=loc[:-1], predicate=_unknown_key(loc[:-1], _choices(context)))
    if kind == "extra_forbidden" and channel and len(loc) == 3 and loc[-1] in known_keys(loc):
        return Problem(loc=loc, predicate=f'does not apply to the type "{channel}": remove it')
    if kind == "extra_forbidden" and loc[-2:-1] == ("auth",) and loc[-1] in known_keys(loc):
        return Problem(loc=loc, predicate="does not apply to this form of auth: remove it")
    if kind == "extra_forbidden":
        return Problem(loc=loc, predicate=_unknown_key(loc, known_keys(loc, channel)))
    if kind in {"missing", "too_short"}:
        return Problem(loc=loc, predicate=f"is missing: {_find_remedy(loc, channel)}")
    if kind in {"literal_error", "enum"}:
        return Problem(loc=loc, predicate=_invalid_choice(error["input"], _choices(context)))
    if kind in {"invalid_value", "secret", "duration"}:
        suffix = context.get("suffix", "")
        return Problem(loc=(*loc[:-1], f"{loc[-1]}{suffix}") if suffix else loc, predicate=error["msg"])
    if kind == "tuple_type" and len(loc) == 1 and isinstance(error["input"], Mapping):
        return Problem(loc=loc, predicate=f"must be a list of tables: write [[{loc[0]}]], with two brackets each side")
    template = _PREDICATES.get(kind) or _PREDICATES.get(kind.partition("_")[0], "has a value of the wrong kind")
    return Problem(loc=loc, predicate=template.format(**context))


def _models_of_type(models: tuple[type[BaseModel], ...], channel: str | None) -> tuple[type[BaseModel], ...]:
    """Of the channel models, the one of this type."""
    if channel is None:
        return models
    model = CHANNEL_TYPES.get(channel, UnknownChannelConfig)
    return (model,) if model in models else models


def _choices(context: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']*)'", str(context["expected"])))


def _unknown_key(loc: Loc, known: tuple[str, ...]) -> str:
    name = next((part for part in reversed(loc) if isinstance(part, str)), "")
    if RENAMED.get(name) in known:
        return f"is now called {RENAMED[name]}: rename it"
    return "is not a known key" + (did_you_mean(name, known) or f"; known here: {', '.join(known)}")


def _invalid_choice(value: object, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and RENAMED.get(value) in choices:
        return f"names {value}, which is now called {RENAMED[value]}: rename it"
    return invalid_choice(value, choices).message()


def _find_remedy(loc: Loc, channel: str | None) -> str:
    """The schema's remedy for a missing setting."""
    models: tuple[type[BaseModel], ...] = (Config,)
    remedy = "give it a value"
    for part in loc:
        for field in [field for model in models if (field := find_field(model, part))]:
            remedies = [each.text for each in field.metadata if isinstance(each, Remedy)]
            models = _models_of_type(nested_models(field.annotation), channel)
            remedy = [*remedies, "give it at least one value"][0]
            break
    return remedy


def _duplicate_names(data: Mapping[str, object], table: str) -> list[Problem]:
    first: dict[str, int] = {}
    found = []
    for position, name in _named_rows(data, table):
        if name in first:
            text = f"repeats the name of {table}[{first[name]}]: give each a unique name"
            found.append(Problem(loc=(table, position, "name"), predicate=text))
        first.setdefault(name, position)
    return found


def _undefined_channels(data: Mapping[str, object]) -> list[Problem]:
    known = [*(name for _, name in _named_rows(data, "channels")), LOG_CHANNEL]  # always exists
    return [
        Problem(
            loc=("routes", row, "channels", column),
            predicate=f"names {quote_name(name)}, which is not a channel"
            + (did_you_mean(name, known) or ": define it under [[channels]]"),
        )
        for row, route in _table_rows(data, "routes")
        for column, name in enumerate(_as_list(route.get("channels")))
        if isinstance(name, str) and name not in known
    ]


def _report_channels(data: Mapping[str, object]) -> Iterator[Problem]:
    """Channels of `[report]` that are not defined, or take no reports."""
    report = data.get("report")
    types = {row.get("name"): row.get("type") for _, row in _table_rows(data, "channels")}
    for column, name in enumerate(_as_list(report.get("channels")) if isinstance(report, dict) else ()):
        if isinstance(name, str) and name not in types and name != LOG_CHANNEL:
            hint = (
                did_you_mean(name, [known for known in types if isinstance(known, str)])
                or ": define it under [[channels]]"
            )
            predicate = f"names {quote_name(name)}, which is not a channel{hint}"
            yield Problem(loc=("report", "channels", column), predicate=predicate)
        elif isinstance(name, str) and types.get(name) in _ALERT_TYPES:
            predicate = f"names {quote_name(name)}, which raises alerts and takes no reports: name another channel"
            yield Problem(loc=("report", "channels", column), predicate=predicate)


def _named_rows(data: Mapping[str, object], table: str) -> list[tuple[int, str]]:
    named = [(position, row.get("name")) for position, row in _table_rows(data, table)]
    return [(position, name) for position, name in named if isinstance(name, str)]


def _table_rows(data: Mapping[str, object], table: str) -> list[tuple[int, dict[str, object]]]:
    return [(position, row) for position, row in enumerate(_as_list(data.get(table))) if isinstance(row, dict)]


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _format_key(problem: Problem, data: Mapping[str, object], variables: Mapping[Loc, str]) -> str:
    loc = problem.loc
    if variable := variables.get(loc):
        return variable
    key = _format_path(loc, data)
    for length in range(len(loc) - 1, 0, -1):
        if variable := variables.get(loc[:length]):
            return f"{key} in {variable}"
    return key


def _unopenable(overrides: list[Override], names: list[str], causes: set[Cause]) -> Iterator[Problem]:
    for name in names if overrides else ():
        for cause, rule in effective_rules(overrides, name).items():
            if cause in causes and rule.sources and (problem := _rule_problem(rule)):
                yield problem


def _rule_problem(found: EffectiveRule) -> Problem | None:
    rule, sources, wrong = found.rule, found.sources, rule_problem(found.rule)
    if wrong is RuleProblem.RUNS_EXCEED_OF:
        runs = f"{rule.runs}, {sources.get('runs', 'built in')}"
        predicate = f"is smaller than runs ({runs}), so the rule could never open an incident: raise of, or lower runs"
        return Problem(loc=("rules", _row(sources["of"]), "of"), predicate=predicate)
    if wrong is RuleProblem.HOLD_FOR_EXCEEDS_WINDOW:
        window = f"window ({format_duration(rule.window)}, {sources.get('window', 'built in')})"
        hold_for = f"for ({format_duration(rule.hold_for)}, {sources.get('hold_for', 'built in')})"
        never = "so the rule could never open an incident"
        # the later of the two settings is reported
        if _row(sources.get("hold_for")) >= _row(sources.get("window")):
            predicate = f"is longer than {window}, {never}: shorten for, or lengthen window"
            return Problem(loc=("rules", _row(sources["hold_for"]), "for"), predicate=predicate)
        predicate = f"is shorter than {hold_for}, {never}: lengthen window, or shorten for"
        return Problem(loc=("rules", _row(sources["window"]), "window"), predicate=predicate)
    return None


def _row(source: str | None) -> int:
    return -1 if source is None else int(source.removeprefix("rules[").removesuffix("]"))


def _format_path(loc: Loc, data: Mapping[str, object]) -> str:
    """`targets.gloo-prod.check` if the target's name is unique, else `targets[0].check`."""
    rows = _named_rows(data, str(loc[0]))
    named = {position: name for position, name in rows if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name)}
    once = {name for name, count in Counter(named.values()).items() if count == 1}
    path = ""
    for depth, part in enumerate(loc):
        if isinstance(part, int):
            name = named.get(part) if depth == 1 else None
            path += f".{name}" if name in once else f"[{part}]"
        else:
            path += f".{part}" if path else part
    return replace_unprintable(path)
