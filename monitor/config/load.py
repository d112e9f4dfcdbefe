"""Reads the file, `.env` and the environment into one `Config`, or says everything that is wrong with them at once.

The only module that opens configuration files or reads the process's environment.
"""

import difflib
import io
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from monitor.config.layers import ExpandedSettings, Layer, expand_variables, merge_layers, resolve_paths, trace_origins
from monitor.config.origin import Loc, Origin, SettingSource
from monitor.config.problems import Problem, find_reference_errors, format_problems, known_keys, translate_errors
from monitor.config.schema import DEFAULT_DATABASE, Config
from monitor.config.section import Section
from monitor.config.unreachable import idle
from monitor.errors import ConfigError

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
class DecodedVariables:
    """What the variables of one source say."""

    layers: tuple[Layer, ...]
    """One per variable, a table before its single keys."""
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    """One sentence per variable that is no setting."""


def decode_variables(variables: Mapping[str, str], folder: Path, source: SettingSource) -> DecodedVariables:
    """Reads the `MONITOR_…` variables, whatever their case; relative paths in them are taken from `folder`."""
    settings = {f"{_PREFIX}{key}".upper(): key for key in _variable_keys()}
    layers, problems, warnings = [], [], []
    for variable in sorted(name for name in variables if name.upper().startswith(_PREFIX)):
        if variable.upper() in {"MONITOR_CONFIG", *_GLOO}:
            continue
        if (key := settings.get(variable.upper())) is None:
            warnings.append(f"{variable} is not a setting and was ignored{_suggestion(variable, settings)}")
            continue
        loc: Loc = tuple(key.split("__"))
        data = _decode_variable(key, variables[variable])
        if data is None:
            problems.append(Problem(loc=loc, predicate=_NOT_JSON))
        origin = Origin(source=source, name=variable)
        layers.append(Layer(data=resolve_paths(data or {}, folder), origin=origin, variables={loc: variable}))
    return DecodedVariables(layers=tuple(layers), problems=tuple(problems), warnings=tuple(warnings))


def gloo_target_layer(sources: Mapping[SettingSource, Mapping[str, object]]) -> Layer | None:
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
    whole = Origin(source=SettingSource.ENVIRONMENT, name="GLOO_…")
    return Layer(data={"targets": [target]}, origin=whole, origins=origins, variables=names)


_NOT_JSON = 'must be JSON, such as [{"name": "…"}] for a list or {"every": "5m"} for a table'


def _suggestion(variable: str, settings: Iterable[str]) -> str:
    # without the prefix, which makes any two of them look alike
    known = [setting.removeprefix(_PREFIX) for setting in settings]
    near = difflib.get_close_matches(variable.upper().removeprefix(_PREFIX), known, n=1, cutoff=0.8)
    return f"; did you mean {_PREFIX}{near[0]}?" if near else ""


def _variable_keys() -> tuple[str, ...]:
    """Everything that one variable can set, below the prefix: keys at the top, and of tables that are no lists."""
    tables = [name for name, field in Config.model_fields.items() if _is_table(field.annotation)]
    return (*known_keys(("",)), *(f"{table}__{key}" for table in tables for key in known_keys((table, ""))))


def _is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _decode_variable(key: str, text: str) -> dict[str, object] | None:
    """The settings that one variable stands for; None when it should be JSON and is not."""
    if key == "database_file":  # a key of ours, not a field that pydantic-settings could know
        return {key: text}

    # pydantic-settings takes a tenth of a second to import, which a run without variables need not wait for
    from pydantic_settings import EnvSettingsSource, SettingsError

    class SingleVariable(EnvSettingsSource):
        """Decodes a variable by itself, so that its problems are its own."""

        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {f"{_PREFIX}{key}".lower(): text}

    try:
        return SingleVariable(
            Config,  # type: ignore[arg-type]  # it reads the fields of any model
            case_sensitive=False,
            env_prefix=_PREFIX,
            env_nested_delimiter="__",
        )()
    except (SettingsError, RecursionError):
        return None


_MAX_BYTES = 1 << 20


@dataclass(slots=True, kw_only=True)
class _Inputs:
    """What was read, and what went wrong in reading."""

    source: Path | None
    folder: Path
    """Where the file stands; the working folder without one."""
    file: dict[str, object] = field(default_factory=dict)
    dotenv: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A configuration, and how it came about."""

    config: Config
    warnings: tuple[str, ...]
    """What was ignored, one sentence each."""
    source: Path | None
    """The file that was read, absolute; None when there was none."""
    origins: Mapping[Loc, Origin]
    """Where each setting came from that has not its default."""


def load(path: Path | None, environ: Mapping[str, str] | None, overrides: Mapping[str, object]) -> LoadedConfig:
    """Steps: 1. read the file and `.env`; 2. make layers of them, the environment and `overrides`; 3. merge; 4. check.

    Raises:
        ConfigError: with every problem. Where a file can't be read at all, the settings in it are not missed as well.
    """
    environment = os.environ if environ is None else environ
    working_folder = Path.cwd()
    inputs = _read_inputs(path, environment, working_folder)
    layers, problems, warnings = _build_layers(inputs, environment, working_folder)
    merged = merge_layers(
        [*layers, Layer(data=resolve_paths(overrides, working_folder), origin=Origin(source=SettingSource.FLAG))]
    )
    config, invalid = (None, []) if inputs.errors else _validate(merged.data, {problem.loc for problem in problems})
    messages = format_problems([*problems, *invalid], merged.data, merged.variables)
    if config is None or messages:
        raise ConfigError(list(dict.fromkeys([*inputs.errors, *messages])))
    origins = trace_origins(merged.data, merged.origins)
    return LoadedConfig(config=config, warnings=warnings, source=inputs.source, origins=origins)


def _read_inputs(path: Path | None, environment: Mapping[str, str], working_folder: Path) -> _Inputs:
    source = _find_file(path, environment, working_folder)
    inputs = _Inputs(source=source, folder=source.parent if source else working_folder)
    if source is not None and (text := _read_text(source, inputs.errors)) is not None:
        inputs.file = _parse_toml(source, text, inputs.errors)
    dotenv = inputs.folder / ".env"
    if dotenv.is_file() and (text := _read_text(dotenv, inputs.errors)) is not None:
        inputs.dotenv = _parse_dotenv(dotenv, text, inputs.errors)
    return inputs


def _find_file(path: Path | None, environment: Mapping[str, str], working_folder: Path) -> Path | None:
    if path is not None:
        return working_folder / path
    if describe_variable := environment.get("MONITOR_CONFIG"):
        return working_folder / describe_variable
    default = working_folder / "monitor.toml"
    return default if default.exists() else None


def _read_text(path: Path, errors: list[str]) -> str | None:
    try:
        with path.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        errors.append(f"{path} can't be read ({error.strerror}): mend the path or its permissions")
        return None
    if len(raw) > _MAX_BYTES:
        errors.append(f"{path} is larger than 1 MiB: name a configuration file")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        errors.append(f"{path} is not UTF-8 text: save it as UTF-8")
        return None


def _parse_toml(path: Path, text: str, errors: list[str]) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # the message is tomllib's own words about the syntax; only its place is certain to quote nothing
        place = re.search(r"line \d+, column \d+|end of document", str(error))
        where = f"at {place[0]}" if place else "somewhere"
    except RecursionError:
        where = "where it nests too deeply"
    errors.append(f"{path} is not valid TOML {where}: mend what stands there (text needs quotes, tables [brackets])")
    return {}


def _parse_dotenv(path: Path, text: str, errors: list[str]) -> dict[str, str]:
    from dotenv.parser import parse_stream

    bindings = list(parse_stream(io.StringIO(text)))
    errors += [
        f"{path} can't be read at line {binding.original.line}: write NAME=value"
        for binding in bindings
        if binding.error
    ]
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _build_layers(
    inputs: _Inputs, environment: Mapping[str, str], working_folder: Path
) -> tuple[list[Layer], list[Problem], tuple[str, ...]]:
    """Everything below the command line, lowest first. `.env` speaks from its own folder, the environment from ours."""
    expanded = expand_variables(inputs.file, {**inputs.dotenv, **environment})
    problems, warnings = expanded.problems, list[str]()
    # the default database stands beside the file, so that the same file means the same history from any folder
    layers = [Layer(data=resolve_paths({"database": DEFAULT_DATABASE}, inputs.folder))]
    sources = (
        (SettingSource.DOTENV, inputs.dotenv, inputs.folder),
        (SettingSource.ENVIRONMENT, environment, working_folder),
    )
    if target := gloo_target_layer({source: resolve_paths(variables, folder) for source, variables, folder in sources}):
        layers.append(target)
    layers.append(_file_layer(inputs, expanded, environment))
    for source, variables, folder in sources:
        decoded = decode_variables(variables, folder, source)
        layers += decoded.layers
        problems += decoded.problems
        warnings += decoded.warnings
    return layers, problems, tuple(dict.fromkeys(warnings))


def _file_layer(inputs: _Inputs, expanded: ExpandedSettings, environment: Mapping[str, str]) -> Layer:
    origin = Origin(source=SettingSource.FILE, name=inputs.source.name if inputs.source else None)

    def describe_variable(variable: str) -> str:
        return f"{variable} in {'the environment' if variable in environment else '.env'}"

    used: dict[Loc, list[str]] = {}
    for loc, names in expanded.used.items():
        whole = loc[:-1] if isinstance(loc[-1], int) else loc  # a list of texts is one setting
        used.setdefault(whole, []).extend(map(describe_variable, names))
    origins = {loc: replace(origin, variables=tuple(dict.fromkeys(names))) for loc, names in used.items()}
    return Layer(data=resolve_paths(expanded.data, inputs.folder), origin=origin, origins=origins)


def _validate(data: Mapping[str, object], known: set[Loc]) -> tuple[Config | None, list[Problem]]:
    """The configuration, if all is well; what is wrong, but for what is known already."""
    invalid = find_reference_errors(data) + idle(data)
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        invalid += translate_errors(error)
    return config, [each for each in invalid if not any(each.loc[: len(loc)] == loc for loc in known)]
