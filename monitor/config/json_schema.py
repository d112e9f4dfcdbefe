"""`monitor.toml` as JSON Schema (draft 2020-12), for editors. `config check` has the rules about several settings."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from monitor.config.channel_settings import CHANNEL_TYPES, UnknownChannelConfig
from monitor.config.schema import DEFAULT_DATABASE, Config
from monitor.config.section import nested_models, secret_fields
from monitor.model.durations import format_duration
from monitor.providers.registry import built_in_names

_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]{0,99}\}"}
"""`${NAME}` is allowed in place of any value."""

Json = dict[str, Any]


def json_schema(installed: Iterable[str] = ()) -> Json:
    """The schema of a whole file; `installed` are the providers that are not built in."""
    raw = Config.model_json_schema(by_alias=True, schema_generator=_Generator)
    defs: Json = {name: _simplify(schema) for name, schema in raw.pop("$defs").items()}
    root = _simplify(raw)
    for model in _iter_models(Config):
        _add_file_keys(defs.get(model.__name__, root), model)
    root["properties"]["database"]["default"] = DEFAULT_DATABASE
    root.pop("required")  # variables can describe the target
    defs["TargetConfig"]["properties"]["provider"] |= {"enum": [*built_in_names(), *installed]}
    root["properties"]["channels"]["items"] = _channel_schema(defs)
    whole = {"$schema": GenerateJsonSchema.schema_dialect, "title": "monitor.toml", **root, "$defs": defs}
    return {key: _allow_variables(value) if key in {"properties", "$defs"} else value for key, value in whole.items()}


class _Generator(GenerateJsonSchema):
    """Writes defaults as in the file."""

    def encode_default(self, dft: object) -> object:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _channel_schema(defs: Json) -> Json:
    """A channel; the type selects its schema. Editors complete that better than a list of alternatives."""
    unknown = defs.pop(UnknownChannelConfig.__name__)
    rules: list[Json] = []
    for type_, model in CHANNEL_TYPES.items():
        condition = {"properties": {"type": {"const": type_}}, "required": ["type"]}
        rules.append({"if": condition, "then": {"$ref": f"#/$defs/{model.__name__}"}})
    properties = {key: unknown["properties"][key] for key in ("name", "type")}
    return {"type": "object", "required": ["name", "type"], "properties": properties, "allOf": rules}


def _iter_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in nested_models(field.annotation):
            yield from _iter_models(inner)


def _add_file_keys(schema: Json, model: type[BaseModel]) -> None:
    """Adds `x_file` for each secret `x`; exactly one of the two if the secret is required, else at most one."""
    for name in secret_fields(model):
        file_key = f"{name}_file"
        about = (
            f"Path of a file that contains {name}, read at each use. Relative paths start at the folder of this file."
        )
        schema["properties"][file_key] = {"type": "string", "minLength": 1, "description": about}
        if name in schema.get("required", ()):
            schema["required"] = [each for each in schema["required"] if each != name]
            schema.setdefault("allOf", []).append({"oneOf": [{"required": [name]}, {"required": [file_key]}]})
        else:
            schema.setdefault("allOf", []).append({"not": {"required": [name, file_key]}})


def _simplify(schema: Any) -> Any:  # noqa: ANN401  # any part of a schema
    """The schema without null, which TOML does not have, titles, and defaults of whole tables."""
    if isinstance(schema, list):
        return [_simplify(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    simplified = {
        key: {name: _simplify(part) for name, part in value.items()} if key == "properties" else _simplify(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "default" and (value is None or isinstance(value, dict)))
    }
    if {"type": "null"} in simplified.get("anyOf", ()):
        real = [each for each in simplified.pop("anyOf") if each != {"type": "null"}]
        simplified = {**(real[0] if len(real) == 1 else {"anyOf": real}), **simplified}
    return simplified


def _allow_variables(schema: Any) -> Any:  # noqa: ANN401  # any part of a schema
    """Allows `${NAME}` in place of numbers, booleans, choices and patterns."""
    if isinstance(schema, list):
        return [_allow_variables(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("type"), str) and _is_restricted(schema):
        annotations = {key: schema[key] for key in ("description", "default", "examples") if key in schema}
        restricted = {key: value for key, value in schema.items() if key not in annotations}
        return {**annotations, "anyOf": [restricted, _VARIABLE]}
    return {
        key: value if key in {"if", "propertyNames", "default", "examples"} else _allow_variables(value)
        for key, value in schema.items()
    }


def _is_restricted(schema: Json) -> bool:
    return schema["type"] in {"integer", "number", "boolean"} or bool({"enum", "const", "pattern"} & schema.keys())
