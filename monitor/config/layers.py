"""Layers of settings, the later laid over the earlier; `${NAME}` filled in; relative paths anchored. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from monitor.config.origin import DEFAULT, Loc, Origin, leaves, origin_of
from monitor.config.problems import Problem
from monitor.config.urls import anchor_sqlite

_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_FILL = "give it a value in the environment or in .env"
_T = TypeVar("_T")
_PLAIN_FILES = frozenset({"ca_file", "cert_file", "key_file"})
"""Settings that are paths themselves, of the table `tls`; elsewhere `x_file` stands for the secret `x`."""
_RIVALS = {"every": "cron", "cron": "every"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Settings from one source."""

    data: Mapping[str, object]
    origin: Origin = DEFAULT
    origins: Mapping[Loc, Origin] = field(default_factory=dict)
    """Settings in it that came from elsewhere than the rest."""
    variables: Mapping[Loc, str] = field(default_factory=dict)
    """What sentences call a setting that was not written as a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """All layers in one."""

    data: Mapping[str, object]
    origins: Mapping[Loc, Origin]
    """Of settings, and of whole tables and lists that were written at once."""
    variables: Mapping[Loc, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """Settings with the variables in them replaced."""

    data: dict[str, object]
    problems: list[Problem]
    used: Mapping[Loc, tuple[str, ...]]
    """The variables that each text took its value from."""


def merge(layers: Iterable[Layer]) -> Merged:
    """One layer of all: tables merged key by key, anything else replaced whole.

    A setting also replaces its rivals from earlier layers: `every` and `cron`, `url` and `url_file`.
    """
    data: dict[str, object] = {}
    origins: dict[Loc, Origin] = {}
    variables: dict[Loc, str] = {}
    for layer in layers:
        _lay_over(data, layer.data)
        replaced = [loc for loc, _ in leaves(layer.data)] if layer.data else []
        origins = {**_outside(origins, replaced), **dict.fromkeys(replaced, layer.origin), **layer.origins}
        variables = {**_outside(variables, replaced), **layer.variables}
    return Merged(data=data, origins=origins, variables=variables)


def trace(data: Mapping[str, object], origins: Mapping[Loc, Origin]) -> dict[Loc, Origin]:
    """The origin of every single setting that is there; a secret's file is the origin of the secret itself."""
    traced = {}
    for loc, value in leaves(data, into_rows=True):
        origin, key = origin_of(loc, origins), str(loc[-1])
        if key in _PLAIN_FILES:
            traced[loc] = replace(origin, secret_file=str(value)) if key == "key_file" else origin
        elif key.endswith("_file") and isinstance(value, str):
            traced[*loc[:-1], key.removesuffix("_file")] = replace(origin, secret_file=value)
        else:
            traced[loc] = origin
    return traced


def fill_in(data: Mapping[str, object], variables: Mapping[str, str]) -> Filled:
    """Replaces `${NAME}` in every text by the variable's value, and `$$` by a dollar sign.

    What is not set stays as it stands, and is a problem of that text; so is a text that would be empty.
    """
    problems: list[Problem] = []
    used: dict[Loc, tuple[str, ...]] = {}

    def fill(loc: Loc, text: str) -> str:
        names = [match[1] for match in _VARIABLE.finditer(text) if match[1] is not None]
        problems.extend(Problem(loc=loc, predicate=_unset(name)) for name in names if name not in variables)
        filled = _VARIABLE.sub(lambda match: "$" if match[1] is None else variables.get(match[1], match[0]), text)
        if names and not filled:
            problems.append(Problem(loc=loc, predicate=f"needs the variable {names[0]}, which is empty: {_FILL}"))
        if names:
            used[loc] = tuple(dict.fromkeys(names))
        return filled

    return Filled(data=_each_text(data, fill), problems=problems, used=used)


def anchored(data: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Takes relative paths (settings that end with `_file`, and SQLite URLs) from `folder`."""

    def anchor(loc: Loc, text: str) -> str:
        if text and str(loc[-1]).endswith("_file"):
            return str(folder / text)
        return anchor_sqlite(text, folder)

    return _each_text(data, anchor)


def _unset(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "holds ${…} without a variable's name: write ${NAME}, or $$ for a dollar sign"
    return f"needs the variable {name}, which is not set: set it in the environment or in .env"


def _lay_over(under: dict[str, object], over: Mapping[str, object]) -> None:
    for key, value in over.items():
        for rival in _RIVALS.get(key, ""), f"{key}_file", key.removesuffix("_file"):
            if rival != key and rival not in over:
                under.pop(rival, None)
        if isinstance(value, Mapping):
            below = under.get(key)
            table = below if isinstance(below, dict) else {}
            under[key] = table
            _lay_over(table, value)
        else:
            under[key] = value


def _outside(known: Mapping[Loc, _T], replaced: Iterable[Loc]) -> dict[Loc, _T]:
    """What was said of settings that nothing replaced."""
    return {loc: value for loc, value in known.items() if not any(loc[: len(leaf)] == leaf for leaf in replaced)}


def _each_text(data: Mapping[str, object], change: Callable[[Loc, str], str], loc: Loc = ()) -> dict[str, object]:
    return {key: _changed(value, change, (*loc, key)) for key, value in data.items()}


def _changed(value: object, change: Callable[[Loc, str], str], loc: Loc) -> object:
    if isinstance(value, str):
        return change(loc, value)
    if isinstance(value, Mapping):
        return _each_text(value, change, loc)
    if isinstance(value, list):
        return [_changed(inner, change, (*loc, position)) for position, inner in enumerate(value)]
    return value
