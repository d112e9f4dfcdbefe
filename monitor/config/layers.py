"""Merges layers of settings, expands `${NAME}`, and resolves relative paths. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from monitor.config.origin import DEFAULT, Loc, Origin, iter_settings, origin_of
from monitor.config.problems import Problem
from monitor.config.urls import resolve_sqlite_path

_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_REMEDY = "give it a value in the environment or in .env"
_T = TypeVar("_T")
_PATH_SETTINGS = frozenset({"ca_file", "cert_file", "key_file"})
"""Settings that are paths themselves; any other `x_file` is the path of a file with the secret `x`."""
_EXCLUSIVE = {"every": "cron", "cron": "every"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Settings from one source, or from all of them, merged."""

    data: Mapping[str, object]
    origin: Origin = DEFAULT
    origins: Mapping[Loc, Origin] = field(default_factory=dict)
    """Of the settings that have another origin; tables and lists that were written as a whole are one setting."""
    variables: Mapping[Loc, str] = field(default_factory=dict)
    """The variables to name in errors about these settings, instead of a key."""


def merge_layers(layers: Iterable[Layer]) -> Layer:
    """Merges tables key by key; any other value replaces the earlier one as a whole.

    A setting also replaces its alternative from an earlier layer: `every` and `cron`, `url` and `url_file`.
    """
    data: dict[str, object] = {}
    origins: dict[Loc, Origin] = {}
    variables: dict[Loc, str] = {}
    for layer in layers:
        _merge_into(data, layer.data)
        replaced = [loc for loc, _ in iter_settings(layer.data)] if layer.data else []
        origins = {**_not_replaced(origins, replaced), **dict.fromkeys(replaced, layer.origin), **layer.origins}
        variables = {**_not_replaced(variables, replaced), **layer.variables}
    return Layer(data=data, origins=origins, variables=variables)


def merge_tables(base: Mapping[str, object], overrides: Mapping[str, object]) -> dict[str, object]:
    """A table with another's settings over its own, merged as layers are; neither is changed."""
    merged: dict[str, object] = {}
    _merge_into(merged, base)
    _merge_into(merged, overrides)
    return merged


def trace_origins(data: Mapping[str, object], origins: Mapping[Loc, Origin]) -> dict[Loc, Origin]:
    """The origin of every single setting; for `x_file`, the origin of the secret `x`."""
    traced = {}
    for loc, value in iter_settings(data, enter_lists=True):
        origin, key = origin_of(loc, origins), str(loc[-1])
        if key in _PATH_SETTINGS:
            traced[loc] = replace(origin, secret_file=str(value)) if key == "key_file" else origin
        elif key.endswith("_file") and isinstance(value, str) and not is_free(loc):
            traced[*loc[:-1], key.removesuffix("_file")] = replace(origin, secret_file=value)
        else:
            traced[loc] = origin
    return traced


def expand_variables(
    data: Mapping[str, object], variables: Mapping[str, str]
) -> tuple[dict[str, object], list[Problem], Mapping[Loc, tuple[str, ...]]]:
    """Replaces `${NAME}` in every text with the variable's value, and `$$` with a dollar sign.

    Returns the settings, the problems, and the variables used in each text. A variable that is not set, or that makes
    the text empty, is a problem.
    """
    problems: list[Problem] = []
    used: dict[Loc, tuple[str, ...]] = {}

    def expand(loc: Loc, text: str) -> str:
        names = [match[1] for match in _VARIABLE.finditer(text) if match[1] is not None]
        problems.extend(Problem(loc=loc, predicate=_unset_variable(name)) for name in names if name not in variables)
        expanded = _VARIABLE.sub(lambda match: "$" if match[1] is None else variables.get(match[1], match[0]), text)
        if names and not expanded:
            problems.append(Problem(loc=loc, predicate=f"needs the variable {names[0]}, which is empty: {_REMEDY}"))
        if names:
            used[loc] = tuple(dict.fromkeys(names))
        return expanded

    return _map_texts(data, expand), problems, used


_FREE_TABLES = frozenset({"body", "params", "param_columns", "headers", "values", "options"})
"""Tables whose keys are names of the API or the user: no `x_file` in them is a path."""


def is_free(loc: Loc) -> bool:
    """Whether a setting is in a table whose keys are not ours."""
    return not _FREE_TABLES.isdisjoint(loc[:-1])


def resolve_paths(data: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Resolves relative paths (settings that end with `_file`, and SQLite URLs) against `folder`."""

    def resolve(loc: Loc, text: str) -> str:
        if is_free(loc):
            return text
        if text and str(loc[-1]).endswith("_file"):
            return str(folder / text)
        return resolve_sqlite_path(text, folder)

    return _map_texts(data, resolve)


def _unset_variable(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "contains ${…} without a valid variable name: write ${NAME}, or $$ for a dollar sign"
    return f"needs the variable {name}, which is not set: set it in the environment or in .env"


def _merge_into(base: dict[str, object], overrides: Mapping[str, object]) -> None:
    for key, value in overrides.items():
        for alternative in _EXCLUSIVE.get(key, ""), f"{key}_file", key.removesuffix("_file"):
            if alternative != key and alternative not in overrides:
                base.pop(alternative, None)
        if isinstance(value, Mapping):
            nested = base.get(key)
            base[key] = table = nested if isinstance(nested, dict) else {}
            _merge_into(table, value)
        else:
            base[key] = value


def _not_replaced(known: Mapping[Loc, _T], replaced: Iterable[Loc]) -> dict[Loc, _T]:
    """The entries of settings that were not replaced."""
    return {loc: value for loc, value in known.items() if not any(loc[: len(leaf)] == leaf for leaf in replaced)}


def _map_texts(data: Mapping[str, object], change: Callable[[Loc, str], str], loc: Loc = ()) -> dict[str, object]:
    return {key: _map_value(value, change, (*loc, key)) for key, value in data.items()}


def _map_value(value: object, change: Callable[[Loc, str], str], loc: Loc) -> object:
    if isinstance(value, str):
        return change(loc, value)
    if isinstance(value, Mapping):
        return _map_texts(value, change, loc)
    if isinstance(value, list):
        return [_map_value(inner, change, (*loc, position)) for position, inner in enumerate(value)]
    return value
