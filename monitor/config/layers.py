"""Layers of settings, the later laid over the earlier; `${NAME}` filled in; relative paths anchored. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monitor.config.addresses import anchor_sqlite
from monitor.config.problems import Loc, Problem

__all__ = ["Layer", "anchored", "fill_in", "merge"]

_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_RIVALS = {"every": "cron", "cron": "every"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Settings from one source."""

    data: Mapping[str, object]
    origins: Mapping[Loc, str] = field(default_factory=dict)
    """The variables that settings came from; a setting without one is named by its key."""


def merge(layers: Iterable[Layer]) -> Layer:
    """One layer of all: tables merged key by key, anything else replaced whole.

    A setting also replaces its rivals from earlier layers: `every` and `cron`, `url` and `url_file`.
    """
    data: dict[str, object] = {}
    origins: dict[Loc, str] = {}
    for layer in layers:
        _lay_over(data, layer.data)
        replaced = list(_leaves(layer.data)) if layer.data else []
        origins = {loc: name for loc, name in origins.items() if not any(loc[: len(leaf)] == leaf for leaf in replaced)}
        origins.update(layer.origins)
    return Layer(data=data, origins=origins)


def fill_in(data: Mapping[str, object], variables: Mapping[str, str]) -> tuple[dict[str, object], list[Problem]]:
    """Replaces `${NAME}` in every text by the variable's value, and `$$` by a dollar sign.

    What is not set stays as it stands, and is a problem of that text.
    """
    problems: list[Problem] = []

    def fill(loc: Loc, text: str) -> str:
        return _VARIABLE.sub(lambda match: value_of(loc, match), text)

    def value_of(loc: Loc, match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        if name not in variables:
            problems.append(Problem(loc=loc, predicate=_unset(name)))
        return variables.get(name, match[0])

    return _each_text(data, fill), problems


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


def _leaves(value: object, loc: Loc = ()) -> Iterator[Loc]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*loc, key))
    else:
        yield loc


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
