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

from monitor.config.layers import Filled, Layer, anchored, fill_in, merge, trace
from monitor.config.origin import Loc, Origin, Source
from monitor.config.problems import Problem, explain, known_keys, relations, sentences
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


_MAX_BYTES = 1 << 20


@dataclass(slots=True, kw_only=True)
class _Gathered:
    """What was read, and what went wrong in reading."""

    source: Path | None
    folder: Path
    """Where the file stands; the working folder without one."""
    file: dict[str, object] = field(default_factory=dict)
    dotenv: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration, and how it came about."""

    config: Config
    warnings: tuple[str, ...]
    """What was ignored, one sentence each."""
    source: Path | None
    """The file that was read, absolute; None when there was none."""
    origins: Mapping[Loc, Origin]
    """Where each setting came from that has not its default."""


def load(path: Path | None, environ: Mapping[str, str] | None, overrides: Mapping[str, object]) -> Loaded:
    """Steps: 1. read the file and `.env`; 2. make layers of them, the environment and `overrides`; 3. merge; 4. check.

    Raises:
        ConfigError: with every problem. Where a file can't be read at all, the settings in it are not missed as well.
    """
    environment = os.environ if environ is None else environ
    here = Path.cwd()
    gathered = _gather(path, environment, here)
    layers, problems, warnings = _layers(gathered, environment, here)
    merged = merge([*layers, Layer(data=anchored(overrides, here), origin=Origin(source=Source.FLAG))])
    config, wrong = (None, []) if gathered.faults else _check(merged.data, {problem.loc for problem in problems})
    told = sentences([*problems, *wrong], merged.data, merged.variables)
    if config is None or told:
        raise ConfigError(list(dict.fromkeys([*gathered.faults, *told])))
    origins = trace(merged.data, merged.origins)
    return Loaded(config=config, warnings=warnings, source=gathered.source, origins=origins)


def _gather(path: Path | None, environment: Mapping[str, str], here: Path) -> _Gathered:
    source = _source(path, environment, here)
    gathered = _Gathered(source=source, folder=source.parent if source else here)
    if source is not None and (text := _read(source, gathered.faults)) is not None:
        gathered.file = _toml(source, text, gathered.faults)
    dotenv = gathered.folder / ".env"
    if dotenv.is_file() and (text := _read(dotenv, gathered.faults)) is not None:
        gathered.dotenv = _dotenv(dotenv, text, gathered.faults)
    return gathered


def _source(path: Path | None, environment: Mapping[str, str], here: Path) -> Path | None:
    if path is not None:
        return here / path
    if named := environment.get("MONITOR_CONFIG"):
        return here / named
    usual = here / "monitor.toml"
    return usual if usual.exists() else None


def _read(path: Path, faults: list[str]) -> str | None:
    try:
        with path.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        faults.append(f"{path} can't be read ({error.strerror}): mend the path or its permissions")
        return None
    if len(raw) > _MAX_BYTES:
        faults.append(f"{path} is larger than 1 MiB: name a configuration file")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        faults.append(f"{path} is not UTF-8 text: save it as UTF-8")
        return None


def _toml(path: Path, text: str, faults: list[str]) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # the message is tomllib's own words about the syntax; only its place is certain to quote nothing
        place = re.search(r"line \d+, column \d+|end of document", str(error))
        where = f"at {place[0]}" if place else "somewhere"
    except RecursionError:
        where = "where it nests too deeply"
    faults.append(f"{path} is not valid TOML {where}: mend what stands there (text needs quotes, tables [brackets])")
    return {}


def _dotenv(path: Path, text: str, faults: list[str]) -> dict[str, str]:
    from dotenv.parser import parse_stream

    bindings = list(parse_stream(io.StringIO(text)))
    faults += [
        f"{path} can't be read at line {binding.original.line}: write NAME=value"
        for binding in bindings
        if binding.error
    ]
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value is not None}


def _layers(
    gathered: _Gathered, environment: Mapping[str, str], here: Path
) -> tuple[list[Layer], list[Problem], tuple[str, ...]]:
    """Everything below the command line, lowest first. `.env` speaks from its own folder, the environment from ours."""
    filled = fill_in(gathered.file, {**gathered.dotenv, **environment})
    problems, warnings = filled.problems, list[str]()
    # the default database stands beside the file, so that the same file means the same history from any folder
    layers = [Layer(data=anchored({"database": DEFAULT_DATABASE}, gathered.folder))]
    sources = (Source.DOTENV, gathered.dotenv, gathered.folder), (Source.ENVIRONMENT, environment, here)
    if target := gloo_target({source: anchored(variables, folder) for source, variables, folder in sources}):
        layers.append(target)
    layers.append(_file_layer(gathered, filled, environment))
    for source, variables, folder in sources:
        decoded = decode(variables, folder, source)
        layers += decoded.layers
        problems += decoded.problems
        warnings += decoded.warnings
    return layers, problems, tuple(dict.fromkeys(warnings))


def _file_layer(gathered: _Gathered, filled: Filled, environment: Mapping[str, str]) -> Layer:
    origin = Origin(source=Source.FILE, name=gathered.source.name if gathered.source else None)

    def named(variable: str) -> str:
        return f"{variable} in {'the environment' if variable in environment else '.env'}"

    used: dict[Loc, list[str]] = {}
    for loc, names in filled.used.items():
        whole = loc[:-1] if isinstance(loc[-1], int) else loc  # a list of texts is one setting
        used.setdefault(whole, []).extend(map(named, names))
    origins = {loc: replace(origin, variables=tuple(dict.fromkeys(names))) for loc, names in used.items()}
    return Layer(data=anchored(filled.data, gathered.folder), origin=origin, origins=origins)


def _check(data: Mapping[str, object], known: set[Loc]) -> tuple[Config | None, list[Problem]]:
    """The configuration, if all is well; what is wrong, but for what is known already."""
    wrong = relations(data) + idle(data)
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        wrong += explain(error)
    return config, [each for each in wrong if not any(each.loc[: len(loc)] == loc for loc in known)]
