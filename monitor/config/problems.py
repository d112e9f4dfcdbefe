"""What is wrong, as sentences: each begins with the key or variable as its author wrote it. Pure; no value is quoted
that could be a secret.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from monitor.config.schema import Config
from monitor.config.section import models_in, secret_fields

__all__ = ["Loc", "Problem", "did_you_mean", "explain", "known_keys", "relations", "sentences", "shown"]

Loc = tuple[str | int, ...]
"""Where a setting stands: `("targets", 0, "check", "deadline")`."""

_LATER = {
    "rate",
    "rate_share",
    "by",
    "group_wait",
    "include_api_message",
}  # fmt: skip
_LATER_CHOICES = {
    "provider": {"generic", "uppzy", "rag_modulo", "openai"},
    "strategy": {"list"},
    "http": {"fast"},
    "type": {"slack", "email", "pagerduty", "alertmanager", "apprise"},
}
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


def explain(error: ValidationError) -> list[Problem]:
    """Every error of a validation, in our words and without its input."""
    # a default that waits for another setting says nothing of its own
    told = [each for each in error.errors(include_url=False) if each["type"] != "default_factory_not_called"]
    found = [_problem(each) for each in told]
    deeper = {problem.loc[:length] for problem in found for length in range(len(problem.loc))}
    # a list is also "too short" when its only element is wrong
    return [problem for problem in found if not (problem.loc in deeper and problem.predicate.startswith("is missing"))]


def relations(data: Mapping[str, object]) -> list[Problem]:
    """Names given twice and channels that nobody defined; looks at unchecked data, so that nothing hides these."""
    return [*_repeats(data, "targets"), *_repeats(data, "channels"), *_lost_routes(data)]


def sentences(problems: Iterable[Problem], data: Mapping[str, object], origins: Mapping[Loc, str]) -> list[str]:
    """The problems as people read them.

    Args:
        problems: what is wrong.
        data: the settings as merged, for the names of targets and channels.
        origins: the variables that settings came from; others were written as a key.
    """
    return [f"{_key(problem, data, origins)} {problem.predicate}" for problem in problems]


def known_keys(loc: Loc) -> tuple[str, ...]:
    """The keys that may stand beside `loc`, which need not be one of them."""
    models: tuple[type[BaseModel], ...] = (Config,)
    for part in loc[:-1]:
        if isinstance(part, str):
            fields = [model.model_fields[part] for model in models if part in model.model_fields]
            models = tuple(inner for field in fields for inner in models_in(field.annotation))
    names = [field.alias or name for model in models for name, field in model.model_fields.items()]
    return (*names, *(f"{name}_file" for model in models for name in secret_fields(model)))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "…"?` for the nearest of the known names; empty when none is near."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def shown(text: str) -> str:
    """A name in quotes, printable and no longer than 60 characters."""
    printable = "".join(each if each.isprintable() else "?" for each in text)
    return f'"{printable}"' if len(printable) <= 60 else f'"{printable[:59]}…"'


def _problem(error: ErrorDetails) -> Problem:
    loc = tuple(part for part in error["loc"] if not (isinstance(part, str) and part.startswith("auth:")))
    context = error.get("ctx", {})
    kind = error["type"]
    if loc[-1:] == ("[key]",):
        return Problem(loc=loc[:-1], predicate=_unknown(str(loc[-2]), _choices(context)))
    if kind == "extra_forbidden":
        return Problem(loc=loc, predicate=_unknown(str(loc[-1]), known_keys(loc)))
    if kind in {"missing", "too_short"}:
        return Problem(loc=loc, predicate=f"is missing: {_remedy(loc)}")
    if kind in {"literal_error", "enum"}:
        return Problem(loc=loc, predicate=_not_a_choice(str(loc[-1]), error["input"], _choices(context)))
    if kind in {"wrong", "secret", "duration"}:
        return Problem(loc=(*loc[:-1], f"{loc[-1]}{context.get('suffix', '')}"), predicate=error["msg"])
    if kind == "tuple_type" and len(loc) == 1 and isinstance(error["input"], Mapping):
        return Problem(loc=loc, predicate=f"must be a list of tables: write [[{loc[0]}]], with two brackets each side")
    template = _PREDICATES.get(kind) or _PREDICATES.get(kind.partition("_")[0], "has a value of the wrong kind")
    return Problem(loc=loc, predicate=template.format(**context))


def _choices(context: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(re.findall(r"'([^']*)'", str(context["expected"])))


def _unknown(name: str, known: tuple[str, ...]) -> str:
    if name in _LATER:
        return "is not available in this version: remove it"
    return "is not a known key" + (did_you_mean(name, known) or f"; known here: {', '.join(known)}")


def _not_a_choice(key: str, value: object, choices: tuple[str, ...]) -> str:
    quoted = [f'"{choice}"' for choice in choices]
    listed = " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
    if isinstance(value, str) and value in _LATER_CHOICES.get(key, ()):
        return f"must be {listed}: {shown(value)} is not available in this version"
    near = did_you_mean(value, choices) if isinstance(value, str) and len(choices) > 1 else ""
    return f"is not a known value{near}" if near else f"must be {listed}"


def _remedy(loc: Loc) -> str:
    """What the schema says to do about a missing setting."""
    models: tuple[type[BaseModel], ...] = (Config,)
    remedy = "give it a value"
    for part in loc:
        for field in [model.model_fields[part] for model in models if part in model.model_fields]:
            models, remedy = models_in(field.annotation), field.description or "give it at least one value"
            break
    return remedy


def _repeats(data: Mapping[str, object], table: str) -> list[Problem]:
    first: dict[str, int] = {}
    found = []
    for position, name in _names(data, table):
        if name in first:
            text = f"repeats the name of {table}[{first[name]}]: give each a name of its own"
            found.append(Problem(loc=(table, position, "name"), predicate=text))
        first.setdefault(name, position)
    return found


def _lost_routes(data: Mapping[str, object]) -> list[Problem]:
    known = [*(name for _, name in _names(data, "channels")), "log"]  # there is always a log
    return [
        Problem(
            loc=("routes", row, "channels", column),
            predicate=f"names {shown(name)}, which is no channel"
            + (did_you_mean(name, known) or ": define it under [[channels]]"),
        )
        for row, route in _tables(data, "routes")
        for column, name in enumerate(_list(route.get("channels")))
        if isinstance(name, str) and name not in known
    ]


def _names(data: Mapping[str, object], table: str) -> list[tuple[int, str]]:
    named = [(position, row.get("name")) for position, row in _tables(data, table)]
    return [(position, name) for position, name in named if isinstance(name, str)]


def _tables(data: Mapping[str, object], table: str) -> list[tuple[int, dict[str, object]]]:
    return [(position, row) for position, row in enumerate(_list(data.get(table))) if isinstance(row, dict)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _key(problem: Problem, data: Mapping[str, object], origins: Mapping[Loc, str]) -> str:
    loc = problem.loc
    if variable := origins.get(loc):
        return variable
    key = _path(loc, data)
    for length in range(len(loc) - 1, 0, -1):
        if variable := origins.get(loc[:length]):
            return f"{key} in {variable}"
    return key


def _path(loc: Loc, data: Mapping[str, object]) -> str:
    """`targets.gloo-prod.check` where the target's name is its own, `targets[0].check` where it is not."""
    named = {
        position: name for position, name in _names(data, str(loc[0])) if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name)
    }
    once = {name for name, count in Counter(named.values()).items() if count == 1}
    path = ""
    for depth, part in enumerate(loc):
        if isinstance(part, int):
            name = named.get(part) if depth == 1 else None
            path += f".{name}" if name in once else f"[{part}]"
        else:
            path += f".{part}" if path else part
    return _printable(path)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
