"""The form of `monitor.toml` as JSON Schema (draft 2020-12), for editors. It says no more than a file alone can tell:
what the environment adds and what databases hold is for `config check` and `doctor`.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from monitor.config.channel_settings import CHANNEL_TYPES, UnknownChannelConfig
from monitor.config.schema import DEFAULT_DATABASE, Config
from monitor.config.section import nested_models, secret_fields
from monitor.model.durations import format_duration
from monitor.providers.registry import BUILT_IN

_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]{0,99}\}"}
"""`${NAME}` may stand for anything."""

Json = dict[str, Any]


def json_schema(installed: Iterable[str] = ()) -> Json:
    """The schema of a whole file.

    Args:
        installed: providers that a target may name beside the built-in ones.
    """
    raw = Config.model_json_schema(by_alias=True, schema_generator=_Generator)
    defs: Json = {name: _simplify(schema) for name, schema in raw.pop("$defs").items()}
    root = _simplify(raw)
    for model in _iter_models(Config):
        _add_file_keys(defs.get(model.__name__, root), model)
    root["properties"]["database"]["default"] = DEFAULT_DATABASE
    root.pop("required")  # variables may describe the target
    target: Json = defs["TargetConfig"]
    target["properties"]["provider"] |= {"enum": [*BUILT_IN, *installed]}
    target["allOf"] = [*target.get("allOf", ()), *_PROVIDER_RULES]
    root["properties"]["channels"]["items"] = _channel_schema(defs)
    for name, rules in _CHANNEL_RULES.items():
        defs[name]["allOf"] = [*defs[name].get("allOf", ()), *rules]
    defs["ScheduleConfig"]["not"] = {"required": ["every", "cron"]}
    whole = {"$schema": GenerateJsonSchema.schema_dialect, "title": "monitor.toml", **root, "$defs": defs}
    return {key: _allow_variables(value) if key in {"properties", "$defs"} else value for key, value in whole.items()}


class _Generator(GenerateJsonSchema):
    """Writes defaults as the file would."""

    def encode_default(self, dft: object) -> object:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


_PROVIDER_RULES: list[Json] = [
    {
        "if": {"properties": {"provider": {"const": "gloo"}}, "required": ["provider"]},
        "then": {"required": ["publisher_id", "auth"], "properties": {"options": False}},
        "else": {"required": ["base_url"]},
    },
    {
        "if": {"properties": {"provider": {"const": "generic"}}, "required": ["provider"]},
        "then": {
            "required": ["item", "statuses"],
            "properties": {
                "statuses": {"required": ["completed"]},
                "options": False,
                "auth": {"if": {"required": ["client_id"]}, "then": {"required": ["token_path"]}},
            },
        },
        "else": {"properties": {"item": False, "list": False, "headers": False}},
    },
]


_USER_RULE: Json = {
    "if": {"required": ["user"]},
    "then": {"anyOf": [{"required": ["password"]}, {"required": ["password_file"]}]},
    "else": {"properties": {"password": False, "password_file": False}},
}
_LOOPBACK = r"^(localhost|.+\.localhost|127\..+|::1)$"
_CHANNEL_RULES: dict[str, list[Json]] = {
    "LogConfig": [{"properties": {"include_api_message": {"not": {"const": True}}}}],
    "EmailConfig": [
        _USER_RULE,
        {
            "if": {"properties": {"security": {"const": "none"}}, "required": ["security"]},
            "then": {
                "anyOf": [
                    {"properties": {"allow_plain": {"const": True}}, "required": ["allow_plain"]},
                    {"properties": {"host": {"type": "string", "pattern": _LOOPBACK}}},
                ]
            },
        },
    ],
    "AlertmanagerConfig": [
        _USER_RULE,
        {"if": {"required": ["user"]}, "then": {"properties": {"token": False, "token_file": False}}},
    ],
}


def _channel_schema(defs: Json) -> Json:
    """A channel: its type says which of the forms it has. A list of alternatives would leave an editor guessing."""
    unknown = defs.pop(UnknownChannelConfig.__name__)
    rules = [
        {
            "if": {"properties": {"type": {"const": type_}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/{model.__name__}"},
        }
        for type_, model in CHANNEL_TYPES.items()
    ]
    properties = {key: unknown["properties"][key] for key in ("name", "type")}
    return {"type": "object", "required": ["name", "type"], "properties": properties, "allOf": rules}


def _iter_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in nested_models(field.annotation):
            yield from _iter_models(inner)


def _add_file_keys(schema: Json, model: type[BaseModel]) -> None:
    """Adds `x_file` for each secret `x`; exactly one of them where the secret is required."""
    for name in secret_fields(model):
        file_key = f"{name}_file"
        description = f"Path of a file that holds {name}, read at each use; relative to this file."
        schema["properties"][file_key] = {"type": "string", "minLength": 1, "description": description}
        if name in schema.get("required", ()):
            schema["required"] = [each for each in schema["required"] if each != name]
            schema.setdefault("allOf", []).append({"oneOf": [{"required": [name]}, {"required": [file_key]}]})
        else:
            schema.setdefault("allOf", []).append({"not": {"required": [name, file_key]}})


def _simplify(schema: Any) -> Any:  # noqa: ANN401  # any part of a schema
    """Without what TOML has no word for (null) and what says nothing (titles, defaults of whole tables)."""
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
    """Lets `${NAME}` stand where a number, a yes or no, a choice or a certain form of text is asked for."""
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
