"""What is wrong, as sentences: each begins with the key or variable as its author wrote it. Pure; no value is quoted
that could be a secret.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from monitor.config.channel_settings import CHANNEL_TYPES, UnknownChannelConfig
from monitor.config.fields import did_you_mean, format_choices, quote_name, replace_unprintable
from monitor.config.origin import Loc
from monitor.config.schema import Config
from monitor.config.section import Remedy, find_field, nested_models, secret_fields

_CHANNEL_TAG = "channel:"
_TAG_PREFIXES = ("auth:", _CHANNEL_TAG)
"""What pydantic puts into a place where there are several forms to choose from."""

_PREDICATES = {
    "bool": "must be true or false",
    "dict": "must be a table",
    "float": "must be a number",
    "greater_than_equal": "must be {ge} or more",
    "int": "must be a whole number",
    "less_than_equal": "must be {le} or less",
    "mapping": "must be a table",
    "model": "must be a table",
    "string_pattern_mismatch": "may hold only letters, digits, dots, underscores and hyphens: 1 to 100 of them",
    "string_too_long": "must be no longer than {max_length} characters",
    "string": "must be text in quotes",
    "tuple": "must be a list",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong."""

    loc: Loc
    predicate: str
    """What follows the key: "must be …", "is missing: …"."""


def translate_errors(error: ValidationError) -> list[Problem]:
    """Every error of a validation, in our words and without its input."""
    # a default that waits for another setting says nothing of its own
    reported = [each for each in error.errors(include_url=False) if each["type"] != "default_factory_not_called"]
    found = [_translate_error(each) for each in reported]
    parents = {problem.loc[:length] for problem in found for length in range(len(problem.loc))}
    # a list is also "too short" when its only element is wrong
    return [problem for problem in found if not (problem.loc in parents and problem.predicate.startswith("is missing"))]


def find_reference_errors(data: Mapping[str, object]) -> list[Problem]:
    """Names given twice and channels that nobody defined; looks at unchecked data, so that nothing hides these."""
    return [*_duplicate_names(data, "targets"), *_duplicate_names(data, "channels"), *_undefined_channels(data)]


def format_problems(problems: Iterable[Problem], data: Mapping[str, object], variables: Mapping[Loc, str]) -> list[str]:
    """The problems as people read them.

    Args:
        problems: what is wrong.
        data: the settings as merged, for the names of targets and channels.
        variables: the variables that settings came from; others were written as a key.
    """
    return [f"{_format_key(problem, data, variables)} {problem.predicate}" for problem in problems]


def known_keys(loc: Loc, channel: str | None = None) -> tuple[str, ...]:
    """The keys that may stand beside `loc`, which need not be one of them.

    Args:
        loc: a key's place.
        channel: the type of the channel that it belongs to, if it does; else those of every type are known.
    """
    models: tuple[type[BaseModel], ...] = (Config,)
    for part in loc[:-1]:
        if isinstance(part, str):
            fields = [field for model in models if (field := find_field(model, part))]
            models = _models_of_type(
                tuple(inner for field in fields for inner in nested_models(field.annotation)), channel
            )
    names = [field.alias or name for model in models for name, field in model.model_fields.items()]
    return tuple(dict.fromkeys((*names, *(f"{name}_file" for model in models for name in secret_fields(model)))))


def _translate_error(error: ErrorDetails) -> Problem:
    loc = tuple(part for part in error["loc"] if not (isinstance(part, str) and part.startswith(_TAG_PREFIXES)))
    channel = next(
        (part.removeprefix("channel:") for part in map(str, error["loc"]) if part.startswith("channel:")), ""
    )
    context = error.get("ctx", {})
    kind = error["type"]
    if loc[-1:] == ("[key]",):
        return Problem(loc=loc[:-1], predicate=_unknown_key(loc[:-1], _choices(context)))
    if kind == "extra_forbidden":
        return Problem(loc=loc, predicate=_other_types_key(loc, channel) or _unknown_key(loc, known_keys(loc, channel)))
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
    """Of the forms that a channel may have, the one of its type."""
    if channel is None:
        return models
    model = CHANNEL_TYPES.get(channel, UnknownChannelConfig)
    return (model,) if model in models else models


def _other_types_key(loc: Loc, channel: str | None) -> str:
    """What to say of a key that channels of other types have; empty when none has it."""
    of_another = bool(channel) and len(loc) == 3 and loc[-1] in known_keys(loc)
    return f'has no meaning for the type "{channel}": remove it' if of_another else ""


def _choices(context: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']*)'", str(context["expected"])))


def _unknown_key(loc: Loc, known: tuple[str, ...]) -> str:
    name = next((part for part in reversed(loc) if isinstance(part, str)), "")
    return "is not a known key" + (did_you_mean(name, known) or f"; known here: {', '.join(known)}")


def _invalid_choice(value: object, choices: tuple[str, ...]) -> str:
    allowed = format_choices(choices)
    near = did_you_mean(value, choices) if isinstance(value, str) and len(choices) > 1 else ""
    return f"is not a known value{near}" if near else f"must be {allowed}"


def _find_remedy(loc: Loc, channel: str | None) -> str:
    """What the schema says to do about a missing setting."""
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
            text = f"repeats the name of {table}[{first[name]}]: give each a name of its own"
            found.append(Problem(loc=(table, position, "name"), predicate=text))
        first.setdefault(name, position)
    return found


def _undefined_channels(data: Mapping[str, object]) -> list[Problem]:
    known = [*(name for _, name in _named_rows(data, "channels")), "log"]  # there is always a log
    return [
        Problem(
            loc=("routes", row, "channels", column),
            predicate=f"names {quote_name(name)}, which is no channel"
            + (did_you_mean(name, known) or ": define it under [[channels]]"),
        )
        for row, route in _table_rows(data, "routes")
        for column, name in enumerate(_as_list(route.get("channels")))
        if isinstance(name, str) and name not in known
    ]


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


def _format_path(loc: Loc, data: Mapping[str, object]) -> str:
    """`targets.gloo-prod.check` where the target's name is its own, `targets[0].check` where it is not."""
    named = {
        position: name
        for position, name in _named_rows(data, str(loc[0]))
        if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name)
    }
    once = {name for name, count in Counter(named.values()).items() if count == 1}
    path = ""
    for depth, part in enumerate(loc):
        if isinstance(part, int):
            name = named.get(part) if depth == 1 else None
            path += f".{name}" if name in once else f"[{part}]"
        else:
            path += f".{part}" if path else part
    return replace_unprintable(path)
