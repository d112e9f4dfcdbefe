"""Merges the preset that a target names under the target, and checks what takes more than one setting. Pure.

It reads unvalidated data, so that other errors hide none of these.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from monitor.config.connection import auth_form
from monitor.config.fields import did_you_mean
from monitor.config.layers import Layer, merge_tables
from monitor.config.origin import Loc, Origin, SettingSource, iter_settings
from monitor.config.problems import Problem
from monitor.config.request_fields import CANARY_NAMES, ITEM_NAMES, placeholders
from monitor.providers.preset import Preset, find_preset
from monitor.providers.registry import GENERIC, is_described

_AUTH_DEFAULTS = {"auth:key": ("header", "scheme"), "auth:client": ("token_path", "scope"), "auth:aws": ("service",)}
"""Of `about.auth`, by the form of a target's own `auth`."""
_AUTH_MISSING = {
    "api_key": 'give the key, as in auth = { api_key_file = "…" }',
    "client_credentials": 'give the credentials, as in auth = { client_id = "…", client_secret_file = "…" }',
    "password": 'give user and password, as in auth = { user = "…", password_file = "…" }',
}
_TEMPLATES: Sequence[Loc] = (
    ("item", "path"), ("item", "body"), ("item", "result", "path"), ("list", "path"), ("list", "body"),
)  # fmt: skip
"""The settings of a target that have placeholders."""
_STEPS = ("upload", "retrieve", "delete")
"""The lists of a canary's requests."""
_CANARY_PARAMS = ("canary", "params")


def apply_presets(layer: Layer) -> Layer:
    """The settings with each target's preset merged under it: the target's keys win.

    A status that a target names moves: it leaves the preset's other lists. `auth` gets the preset's defaults of its
    form.
    """
    rows = layer.data.get("targets")
    if not isinstance(rows, list):
        return layer
    merged, origins = list(rows), dict(layer.origins)
    for position, row in enumerate(rows):
        preset = _preset_of(row)
        if preset is not None and isinstance(row, dict):
            merged[position] = merge_tables(_defaults(preset, row), row)
            origin = Origin(source=SettingSource.PRESET, name=preset.name)
            written = {loc for loc, _ in iter_settings(row)}
            added = [
                loc for loc, _ in iter_settings(merged[position]) if not any(loc[: len(own)] == own for own in written)
            ]
            origins |= {("targets", position, *loc): origin for loc in added}
    return replace(layer, data={**layer.data, "targets": merged}, origins=origins)


def _preset_of(row: object) -> Preset | None:
    name = row.get("provider") if isinstance(row, Mapping) else None
    return find_preset(name) if isinstance(name, str) else None


def _defaults(preset: Preset, row: Mapping[str, object]) -> dict[str, object]:
    """What the preset sets below this target."""
    settings = dict(preset.settings)
    known, given = settings.get("statuses"), row.get("statuses")
    if isinstance(known, Mapping) and isinstance(given, Mapping):
        moved = {str(word).casefold() for words in given.values() if isinstance(words, list) for word in words}
        settings["statuses"] = {
            state: [word for word in words if str(word).casefold() not in moved] for state, words in known.items()
        }
    auth = row.get("auth")
    if isinstance(auth, Mapping) and (form := auth_form(auth)) is not None:
        defaults = {key: preset.auth[key] for key in _AUTH_DEFAULTS.get(form, ()) if key in preset.auth}
        if "header" in auth:  # its scheme depends on it
            defaults.pop("scheme", None)
        settings |= {"auth": defaults} if defaults else {}
    elif auth is None and preset.auth_kind == "aws":
        settings["auth"] = dict(preset.auth)  # without keys they come from the machine
    return settings


def find_description_errors(data: Mapping[str, object]) -> list[Problem]:
    """Targets without a question, without credentials, or with a parameter that is missing, unused or set twice."""
    rows = data.get("targets")
    found: list[Problem] = []
    for position, row in enumerate(rows if isinstance(rows, list) else ()):
        if isinstance(row, dict) and isinstance(row.get("provider"), str):
            problems = [*_missing_question(row), *_missing_auth(row), *_param_problems(_Params.of(row), row)]
            found += [replace(each, loc=("targets", position, *each.loc)) for each in problems]
    return found


def _missing_question(row: Mapping[str, object]) -> Iterator[Problem]:
    if row["provider"] == GENERIC and "item" not in row and "list" not in row:
        predicate = (
            'is missing: say how to request one item, in [targets.item], as in path = "/documents/{item_id}"; or, '
            "if the API has only a list, how to request that, in [targets.list]"
        )
        yield Problem(loc=("item",), predicate=predicate)


def _missing_auth(row: Mapping[str, object]) -> Iterator[Problem]:
    preset = _preset_of(row)
    if preset is None or "auth" in row or not preset.is_description:
        return
    own_host = "base_url" in preset.settings and row.get("base_url") != preset.settings["base_url"]
    if (remedy := _AUTH_MISSING.get(preset.auth_kind)) and not own_host:
        yield Problem(loc=("auth",), predicate=f"is missing: {remedy}")


class _Params(msgspec.Struct, frozen=True, kw_only=True):
    """The path parameters of one target."""

    own: tuple[str, ...]
    """Set in `params`."""
    by_row: tuple[str, ...]
    """Set in `sync_log.param_columns`."""
    needed: Mapping[str, str]
    """By name what it is, as the preset says; empty for the placeholders of a description of the target's own."""
    used: Mapping[str, Loc]
    """The placeholders, by name the setting that has it first."""

    @classmethod
    def of(cls, row: Mapping[str, object]) -> "_Params":
        log, preset = row.get("sync_log"), _preset_of(row)
        columns = log.get("param_columns") if isinstance(log, Mapping) else None
        used: dict[str, Loc] = {}
        for loc in _TEMPLATES:
            for name in placeholders(_value_at(row, loc)):
                if name not in ITEM_NAMES and name.isidentifier():
                    used.setdefault(name, loc)
        for loc, name in _step_names(row):
            used.setdefault(name, loc)
        return cls(
            own=_keys(row.get("params")), by_row=_keys(columns), needed=preset.params if preset else {}, used=used
        )


def _step_names(row: Mapping[str, object]) -> Iterator[tuple[Loc, str]]:
    """The parameters of the canary's requests that the target must set, each with its setting; not the canary's own."""
    own = _keys(_value_at(row, _CANARY_PARAMS))
    return ((loc, name) for loc, name in _step_placeholders(row) if name not in own)


def _step_placeholders(row: Mapping[str, object]) -> Iterator[tuple[Loc, str]]:
    """The parameters of the canary's requests; not what it knows of its document, nor what its steps keep."""
    steps: list[tuple[Loc, object]] = [(("find",), row.get("find"))]
    for kind in _STEPS:
        rules = row.get(kind)
        steps += [((kind, position), rule) for position, rule in enumerate(rules if isinstance(rules, list) else ())]
    known = {*CANARY_NAMES, *ITEM_NAMES}
    for _, rule in steps:
        known.update(_keys(_value_at(rule, ("keep",))))
    for loc, rule in steps:
        for key in ("path", "body", "form"):
            for name in placeholders(_value_at(rule, (key,))):
                if name not in known and name.isidentifier():
                    yield (*loc, key), name


def _param_problems(params: _Params, row: Mapping[str, object]) -> Iterator[Problem]:
    publisher = ("publisher_id",) if row.get("publisher_id") is not None else ()
    if is_described(str(row["provider"])):
        yield from _missing_params(params, {*params.own, *params.by_row, *publisher})
        yield from _unused_params(params, row)
        yield from _row_param_problems(set(params.by_row), row)
    for name in params.by_row:
        if name in params.own or name in publisher:
            yield Problem(
                loc=("sync_log", "param_columns", name), predicate="is also set for the whole target: keep one of them"
            )
    if publisher and "publisher_id" in params.own:
        yield Problem(loc=("params", "publisher_id"), predicate="is also set as publisher_id: keep one of them")


def _missing_params(params: _Params, given: set[str]) -> Iterator[Problem]:
    for name in dict.fromkeys((*params.needed, *params.used)):
        loc = (name,) if name == "publisher_id" else ("params", name)
        if name in given:
            continue
        if about := params.needed.get(name):
            yield Problem(loc=loc, predicate=f"is missing: give {about}")
        else:
            predicate = f"uses {{{name}}}, which the target does not set: give {'.'.join(loc)}"
            yield Problem(loc=params.used[name], predicate=predicate)


def _unused_params(params: _Params, row: Mapping[str, object]) -> Iterator[Problem]:
    known = dict.fromkeys((*params.needed, *params.used))
    # names that a canary can't have are refused elsewhere
    of_canary = dict.fromkeys(
        (*known, *(name for _, name in _step_placeholders(row)), *sorted(CANARY_NAMES), *sorted(ITEM_NAMES))
    )
    places: tuple[tuple[Loc, tuple[str, ...], Mapping[str, None]], ...] = (
        (("params",), params.own, known),
        (("sync_log", "param_columns"), params.by_row, known),
        (_CANARY_PARAMS, _keys(_value_at(row, _CANARY_PARAMS)), of_canary),
    )
    for place, names, used in places:
        for name in names:
            if name not in used and name.isidentifier():
                hint = did_you_mean(name, used) or ": remove it"
                yield Problem(loc=(*place, name), predicate=f"is in no path and no body of this target{hint}")


def _row_param_problems(by_row: set[str], row: Mapping[str, object]) -> Iterator[Problem]:
    """What a parameter of a row can't be used for."""
    in_list = min(by_row & _names(row, ("list", "path"), ("list", "body")), default=None)
    in_item = min(by_row & _names(row, ("item", "path"), ("item", "body")), default=None)
    in_result = min(by_row & _names(row, ("item", "result", "path")), default=None)
    if in_list and _value_at(row, ("check", "strategy")) == "list":
        predicate = f'can\'t be "list": the list needs {in_list}, which differs by row (param_columns): use "items"'
        yield Problem(loc=("check", "strategy"), predicate=predicate)
    if in_list and "item" not in row:
        predicate = "can't differ by row, because the list alone answers, for all rows: set it in params instead"
        yield Problem(loc=("sync_log", "param_columns", in_list), predicate=predicate)
    if in_item and _value_at(row, ("item", "batch")) is not None:
        predicate = f"can't be used if {in_item} differs by row (param_columns): remove it"
        yield Problem(loc=("item", "batch"), predicate=predicate)
    if in_result:
        predicate = f"contains {in_result}, which differs by row (param_columns): set it in params instead"
        yield Problem(loc=("item", "result", "path"), predicate=predicate)


def _names(row: Mapping[str, object], *locs: Loc) -> set[str]:
    return {name for loc in locs for name in placeholders(_value_at(row, loc))}


def _value_at(table: object, loc: Loc) -> object:
    for key in loc:
        table = table.get(str(key)) if isinstance(table, Mapping) else None
    return table


def _keys(table: object) -> tuple[str, ...]:
    return tuple(table) if isinstance(table, Mapping) else ()
