"""`load_config` makes a `Config`. No other module opens configuration files or reads the process's environment."""

import difflib
import io
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from monitor.config.descriptions import apply_presets, find_description_errors
from monitor.config.layers import Layer, expand_variables, merge_layers, resolve_paths, trace_origins
from monitor.config.origin import Loc, Origin, SettingSource
from monitor.config.problems import (
    Problem,
    find_reference_errors,
    find_unmeasurable_slos,
    find_unopenable_rules,
    find_workers_without_server,
    format_problems,
    known_keys,
    translate_errors,
)
from monitor.config.schema import DEFAULT_DATABASE, NO_FILE_REMEDY, Config
from monitor.config.section import Section
from monitor.config.sync_log import preset_settings
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
"""The variables that describe one target without a file, and their settings in it."""


def decode_variables(
    variables: Mapping[str, str], folder: Path, source: SettingSource
) -> tuple[list[Layer], list[Problem], list[str]]:
    """Reads the `MONITOR_…` variables, ignoring case. Relative paths in them start at `folder`.

    Returns a layer per variable, a table before its single keys; the problems; the unknown variables, each with a near
    name. Variables that Kubernetes sets for a Service are not mentioned.
    """
    settings = {f"{_PREFIX}{key}".upper(): key for key in _variable_keys()}
    layers, problems, unknown = [], [], []
    for variable in sorted(name for name in variables if name.upper().startswith(_PREFIX)):
        if variable.upper() in {"MONITOR_CONFIG", *_GLOO}:
            continue
        if (key := settings.get(variable.upper())) is None:
            if not _is_of_service(variable, variables[variable]):
                unknown.append(f"{variable}{_suggestion(variable, settings)}")
            continue
        loc: Loc = tuple(key.split("__"))
        data = _decode_variable(key, variables[variable])
        if data is None:
            problems.append(Problem(loc=loc, predicate=_NOT_JSON))
        origin = Origin(source=source, name=variable)
        layers.append(Layer(data=resolve_paths(data or {}, folder), origin=origin, variables={loc: variable}))
    return layers, problems, unknown


def gloo_target_layer(sources: Mapping[SettingSource, Mapping[str, object]]) -> Layer | None:
    """The Gloo target that variables describe, later sources winning; None if no such variable is set."""
    origins: dict[Loc, Origin] = {}
    target: dict[str, object] = {"name": "gloo", "provider": "gloo", "auth": {}}
    for source, variables in sources.items():
        for name in (name for name in variables if name.upper() in _GLOO):
            *tables, key = map(str, _GLOO[name.upper()])
            table = target
            for each in tables:
                table = table.setdefault(each, {})  # type: ignore[assignment]  # every one of them is a table
            table[key] = variables[name]
            origins["targets", 0, *tables, key] = Origin(source=source, name=name)
    if not origins:
        return None
    names: dict[Loc, str] = {("targets", 0, *loc): name for name, loc in _GLOO.items()}
    names["targets", 0, "auth"] = "GLOO_CLIENT_ID with GLOO_CLIENT_SECRET, or GLOO_API_KEY"
    whole = Origin(source=SettingSource.ENVIRONMENT, name="GLOO_…")
    return Layer(data={"targets": [target]}, origin=whole, origins=origins, variables=names)


_NOT_JSON = 'must be JSON, such as [{"name": "…"}] for a list or {"every": "5m"} for a table'


def _suggestion(variable: str, settings: Iterable[str]) -> str:
    # without the prefix, which makes any two names look alike
    known = [setting.removeprefix(_PREFIX) for setting in settings]
    near = difflib.get_close_matches(variable.upper().removeprefix(_PREFIX), known, n=1, cutoff=0.85)
    return f" (did you mean {_PREFIX}{near[0]}?)" if near else ""


_SERVICE_VARIABLE = re.compile(
    r"MONITOR(_[A-Z0-9_]+)?(_SERVICE_HOST|_SERVICE_PORT(_[A-Z0-9_]+)?|_PORT(_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")


def _is_of_service(variable: str, value: str) -> bool:
    """Whether Kubernetes sets this variable in each pod beside a Service whose name begins with `monitor`."""
    named = _SERVICE_VARIABLE.fullmatch(variable)
    # NAME_PORT alone could also be a slip of somebody who looks for a setting
    return bool(named and (not variable.endswith("_PORT") or value.isdecimal() or _SERVICE_ADDRESS.fullmatch(value)))


def _warn_of_unknown(unknown: Iterable[str]) -> tuple[str, ...]:
    names = list(dict.fromkeys(unknown))
    if not names:
        return ()
    verb = "is not a setting and was" if len(names) == 1 else "are not settings and were"
    return (f"{', '.join(names)} {verb} ignored",)


def _variable_keys() -> tuple[str, ...]:
    """The settings that a variable can hold: top-level keys, and keys of tables that are not in a list."""
    types = {name: field.annotation for name, field in Config.model_fields.items()}
    tables = [name for name, type_ in types.items() if isinstance(type_, type) and issubclass(type_, Section)]
    return (*known_keys(("",)), *(f"{table}__{key}" for table in tables for key in known_keys((table, ""))))


def _decode_variable(key: str, text: str) -> dict[str, object] | None:
    """The settings in one variable; None if it must be JSON and is not."""
    if key == "database_file":  # not a field, so unknown to pydantic-settings
        return {key: text}

    # takes a tenth of a second to import, and most runs have no variables
    from pydantic_settings import EnvSettingsSource, SettingsError

    class SingleVariable(EnvSettingsSource):
        """Decodes one variable, so that errors belong to it."""

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
    """The contents of the files, and errors from reading them. Without a file, `folder` is the working folder."""

    source: Path | None
    folder: Path
    file: dict[str, object] = field(default_factory=dict)
    dotenv: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def load_config(
    path: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> Config:
    """Reads the settings: defaults < file < `.env` < environment < overrides; later sources win, setting by setting.

    Without `path`, it reads the file in `MONITOR_CONFIG`, else `monitor.toml` in the working folder, if any.
    `overrides` come from the command line, nested as in the file. Raises ConfigError with every problem, each with its
    key or variable and a remedy, and no secret. If a file can't be read, its settings are not reported as missing.
    """
    environment = os.environ if environ is None else environ
    working_folder = find_working_folder(environment)
    inputs = _read_inputs(path, environment, working_folder)
    layers, problems, warnings = _build_layers(inputs, environment, working_folder)
    flags = Layer(data=resolve_paths(overrides or {}, working_folder), origin=Origin(source=SettingSource.FLAG))
    merged = apply_presets(merge_layers([*layers, flags]))
    config, invalid = (None, []) if inputs.errors else _validate(merged.data, {problem.loc for problem in problems})
    found = [*problems, *(invalid if inputs.source else map(_of_no_file, invalid))]
    messages = format_problems(found, merged.data, merged.variables)
    if config is None or messages:
        raise ConfigError(list(dict.fromkeys([*inputs.errors, *messages])))
    origins = {**_preset_origins(merged.data), **trace_origins(merged.data, merged.origins)}
    return config.loaded_from(inputs.source, origins=origins, warnings=warnings)


def find_file(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file that `load_config` reads, if any."""
    return _find_file(path, environment, find_working_folder(environment))


def _preset_origins(data: Mapping[str, object]) -> dict[Loc, Origin]:
    """The origins of settings that the preset of a sync log filled."""
    rows = data.get("targets")
    logs = {
        ("targets", row, "sync_log"): log
        for row, target in enumerate(rows if isinstance(rows, list) else ())
        if isinstance(target, Mapping) and isinstance(log := target.get("sync_log"), Mapping)
    }
    return {
        (*loc, key): Origin(source=SettingSource.PRESET, name=str(log["preset"]))
        for loc, log in logs.items()
        for key in preset_settings(log)
        if key not in log
    }


def find_working_folder(environment: Mapping[str, str]) -> Path:
    """The working folder; if it was deleted under the process, what it was called: nothing relative is found there."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/") / environment.get("PWD", "deleted-working-folder")


def _read_inputs(path: Path | None, environment: Mapping[str, str], working_folder: Path) -> _Inputs:
    source = _find_file(path, environment, working_folder)
    inputs = _Inputs(source=source, folder=source.parent if source else working_folder)
    if source is not None and (text := read_text(source, inputs.errors)) is not None:
        inputs.file = parse_toml(source, text, inputs.errors)
    dotenv = inputs.folder / ".env"
    if can_see(dotenv.is_file) and (text := read_text(dotenv, inputs.errors)) is not None:
        inputs.dotenv = _parse_dotenv(dotenv, text, inputs.errors)
    return inputs


def _find_file(path: Path | None, environment: Mapping[str, str], working_folder: Path) -> Path | None:
    if given := path or environment.get("MONITOR_CONFIG"):
        return working_folder / given
    default = working_folder / "monitor.toml"
    return default if can_see(default.exists) else None


def can_see(look: Callable[[], bool]) -> bool:
    """The answer of `path.exists` or `path.is_file`; no if the path is in a folder that this user may not enter."""
    try:
        return look()
    except OSError:
        return False


def read_text(path: Path, errors: list[str]) -> str | None:
    """The text of a file of at most 1 MiB; None, with a sentence in `errors`, if it can't be read."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        errors.append(f"{path} can't be read ({error.strerror}): fix the path or its permissions")
        return None
    if len(raw) > _MAX_BYTES:
        errors.append(f"{path} is larger than 1 MiB: give the path of a configuration file")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        errors.append(f"{path} is not UTF-8 text: save it as UTF-8")
        return None


def parse_toml(path: Path, text: str, errors: list[str]) -> dict[str, object]:
    """The settings in a TOML file; empty, with a sentence in `errors`, if it is not valid."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # tomllib's message may quote the file, so only the place is taken from it
        place = re.search(r"line \d+, column \d+|end of document", str(error))
        where = f" at {place[0]}" if place else ""
    except RecursionError:
        where = ": it is nested too deeply"
    errors.append(f"{path} is not valid TOML{where}; fix the syntax (text needs quotes, tables need [brackets])")
    return {}


def _parse_dotenv(path: Path, text: str, errors: list[str]) -> dict[str, str]:
    from dotenv.parser import parse_stream

    bindings = list(parse_stream(io.StringIO(text)))
    wrong = [each.original.line for each in bindings if each.error]
    errors += [f"{path} is not valid at line {line}: write NAME=value" for line in wrong]
    return {each.key: each.value for each in bindings if each.key and each.value is not None}


def _build_layers(
    inputs: _Inputs, environment: Mapping[str, str], working_folder: Path
) -> tuple[list[Layer], list[Problem], tuple[str, ...]]:
    """All layers but the flags, lowest first. Relative paths start at the folder of `.env`, or the working folder."""
    data, problems, used = expand_variables(inputs.file, {**inputs.dotenv, **environment})
    unknown_variables = list[str]()
    # the default database is beside the file, so that a file means the same history from any working folder
    layers = [Layer(data=resolve_paths({"database": DEFAULT_DATABASE}, inputs.folder))]
    sources = (
        (SettingSource.DOTENV, inputs.dotenv, inputs.folder),
        (SettingSource.ENVIRONMENT, environment, working_folder),
    )
    if target := gloo_target_layer({source: resolve_paths(variables, folder) for source, variables, folder in sources}):
        layers.append(target)
    layers.append(_file_layer(inputs, data, used, environment))
    for source, variables, folder in sources:
        decoded, wrong, unknown = decode_variables(variables, folder, source)
        layers += decoded
        problems += wrong
        unknown_variables += unknown
    return layers, problems, _warn_of_unknown(unknown_variables)


def _file_layer(
    inputs: _Inputs, data: Mapping[str, object], used: Mapping[Loc, tuple[str, ...]], environment: Mapping[str, str]
) -> Layer:
    origin = Origin(source=SettingSource.FILE, name=inputs.source.name if inputs.source else None)

    def describe_variable(variable: str) -> str:
        return f"{variable} in {'the environment' if variable in environment else '.env'}"

    described: dict[Loc, list[str]] = {}
    for loc, names in used.items():
        whole = loc[:-1] if isinstance(loc[-1], int) else loc  # a list of strings is one setting
        described.setdefault(whole, []).extend(map(describe_variable, names))
    origins = {loc: replace(origin, variables=tuple(dict.fromkeys(names))) for loc, names in described.items()}
    return Layer(data=resolve_paths(data, inputs.folder), origin=origin, origins=origins)


def _of_no_file(problem: Problem) -> Problem:
    """The problem, where no file was found."""
    missing = problem.loc == ("targets",) and problem.predicate.startswith("is missing")
    return replace(problem, predicate=f"is missing: {NO_FILE_REMEDY}") if missing else problem


def _validate(data: Mapping[str, object], known: set[Loc]) -> tuple[Config | None, list[Problem]]:
    """The configuration, if it is valid, and the problems that are not `known` yet."""
    invalid = find_reference_errors(data) + find_unopenable_rules(data) + find_unmeasurable_slos(data)
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        invalid += translate_errors(error)
    else:
        invalid += find_workers_without_server(config)
    invalid += find_description_errors(data)
    return config, [each for each in invalid if not any(each.loc[: len(loc)] == loc for loc in known)]
