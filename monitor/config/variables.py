"""Settings from environment variables: `MONITOR_…` by name, and one Gloo target from `GLOO_…`.

It is handed the variables; it reads no environment itself.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from monitor.config.layers import Layer, anchored
from monitor.config.origin import Loc, Origin, Source
from monitor.config.problems import Problem, known_keys
from monitor.config.schema import Config
from monitor.config.section import Section

__all__ = ["Decoded", "decode", "gloo_target"]

_PREFIX = "MONITOR_"
_GLOO: Mapping[str, Loc] = {
    "GLOO_BASE_URL": ("base_url",),
    "GLOO_PUBLISHER_ID": ("publisher_id",),
    "GLOO_CLIENT_ID": ("auth", "client_id"),
    "GLOO_CLIENT_SECRET": ("auth", "client_secret"),
    "GLOO_API_KEY": ("auth", "api_key"),
    "MONITOR_SYNC_LOG_URL": ("sync_log", "url"),
    "MONITOR_SYNC_LOG_TABLE": ("sync_log", "table"),
    "MONITOR_SYNC_LOG_ID_COLUMN": ("sync_log", "id_column"),
}
"""The variables that describe one target without a file, and where each belongs in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What the variables of one source say."""

    layers: tuple[Layer, ...]
    """One per variable, a table before its single keys."""
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    """One sentence per variable that is no setting."""


def decode(variables: Mapping[str, str], folder: Path, source: Source) -> Decoded:
    """Reads the `MONITOR_…` variables, whatever their case; relative paths in them are taken from `folder`."""
    settings = {f"{_PREFIX}{key}".upper(): key for key in _settings()}
    layers, problems, warnings = [], [], []
    for variable in sorted(name for name in variables if name.upper().startswith(_PREFIX)):
        if variable.upper() in {"MONITOR_CONFIG", *_GLOO}:
            continue
        if (key := settings.get(variable.upper())) is None:
            warnings.append(f"{variable} is not a setting and was ignored{_nearest(variable, settings)}")
            continue
        loc: Loc = tuple(key.split("__"))
        data = _value(key, variables[variable])
        if data is None:
            problems.append(Problem(loc=loc, predicate=_NOT_JSON))
        origin = Origin(source=source, name=variable)
        layers.append(Layer(data=anchored(data or {}, folder), origin=origin, variables={loc: variable}))
    return Decoded(layers=tuple(layers), problems=tuple(problems), warnings=tuple(warnings))


def gloo_target(sources: Mapping[Source, Mapping[str, object]]) -> Layer | None:
    """One Gloo target as variables alone describe it, later sources winning; None when no variable of one is set."""
    given: dict[Loc, object] = {}
    origins: dict[Loc, Origin] = {}
    for source, variables in sources.items():
        for name in (name for name in variables if name.upper() in _GLOO):
            loc = _GLOO[name.upper()]
            given[loc] = variables[name]
            origins["targets", 0, *loc] = Origin(source=source, name=name)
    if not given:
        return None
    target: dict[str, object] = {"name": "gloo", "provider": "gloo", "auth": {}}
    for loc, value in given.items():
        *tables, key = map(str, loc)
        table = target
        for each in tables:
            table = table.setdefault(each, {})  # type: ignore[assignment]  # every one of them is a table
        table[key] = value
    names: dict[Loc, str] = {("targets", 0, *loc): name for name, loc in _GLOO.items()}
    names["targets", 0, "auth"] = "GLOO_CLIENT_ID with GLOO_CLIENT_SECRET, or GLOO_API_KEY"
    whole = Origin(source=Source.ENVIRONMENT, name="GLOO_…")
    return Layer(data={"targets": [target]}, origin=whole, origins=origins, variables=names)


_NOT_JSON = 'must be JSON, such as [{"name": "…"}] for a list or {"every": "5m"} for a table'


def _nearest(variable: str, settings: Iterable[str]) -> str:
    # without the prefix, which makes any two of them look alike
    known = [setting.removeprefix(_PREFIX) for setting in settings]
    near = difflib.get_close_matches(variable.upper().removeprefix(_PREFIX), known, n=1, cutoff=0.8)
    return f"; did you mean {_PREFIX}{near[0]}?" if near else ""


def _settings() -> tuple[str, ...]:
    """Everything that one variable can set, below the prefix: keys at the top, and of tables that are no lists."""
    tables = [name for name, field in Config.model_fields.items() if _is_table(field.annotation)]
    return (*known_keys(("",)), *(f"{table}__{key}" for table in tables for key in known_keys((table, ""))))


def _is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _value(key: str, text: str) -> dict[str, object] | None:
    """The settings that one variable stands for; None when it should be JSON and is not."""
    if key == "database_file":  # a key of ours, not a field that pydantic-settings could know
        return {key: text}

    # pydantic-settings takes a tenth of a second to import, which a run without variables need not wait for
    from pydantic_settings import EnvSettingsSource, SettingsError

    class OneVariable(EnvSettingsSource):
        """Decodes a variable by itself, so that its problems are its own."""

        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {f"{_PREFIX}{key}".lower(): text}

    try:
        return OneVariable(
            Config,  # type: ignore[arg-type]  # it reads the fields of any model
            case_sensitive=False,
            env_prefix=_PREFIX,
            env_nested_delimiter="__",
        )()
    except (SettingsError, RecursionError):
        return None
