"""The form of `monitor.toml` as JSON Schema (draft 2020-12), for editors. It says no more than a file alone can tell:
what the environment adds and what databases hold is for `config check` and `doctor`.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from monitor.config.channel_settings import CHANNEL_TYPES, UnknownChannel
from monitor.config.schema import DEFAULT_DATABASE, Config
from monitor.config.section import models_in, secret_fields
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
    defs: Json = {name: _tidied(schema) for name, schema in raw.pop("$defs").items()}
    root = _tidied(raw)
    for model in _models(Config):
        _with_files(defs.get(model.__name__, root), model)
    root["properties"]["database"]["default"] = DEFAULT_DATABASE
    root.pop("required")  # variables may describe the target
    target: Json = defs["Target"]
    target["properties"]["provider"] |= {"enum": [*BUILT_IN, *installed]}
    target["allOf"] = [*target.get("allOf", ()), *_PROVIDERS]
    root["properties"]["channels"]["items"] = _by_type(defs)
    for name, rules in _CHANNELS.items():
        defs[name]["allOf"] = [*defs[name].get("allOf", ()), *rules]
    defs["Schedule"]["not"] = {"required": ["every", "cron"]}
    whole = {"$schema": GenerateJsonSchema.schema_dialect, "title": "monitor.toml", **root, "$defs": defs}
    return {key: _open_to_variables(value) if key in {"properties", "$defs"} else value for key, value in whole.items()}


class _Generator(GenerateJsonSchema):
    """Writes defaults as the file would."""

    def encode_default(self, dft: object) -> object:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


_PROVIDERS: list[Json] = [
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


_USER: Json = {
    "if": {"required": ["user"]},
    "then": {"anyOf": [{"required": ["password"]}, {"required": ["password_file"]}]},
    "else": {"properties": {"password": False, "password_file": False}},
}
_LOOPBACK = r"^(localhost|.+\.localhost|127\..+|::1)$"
_CHANNELS: dict[str, list[Json]] = {
    "LogConfig": [{"properties": {"include_api_message": {"not": {"const": True}}}}],
    "EmailConfig": [
        _USER,
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
        _USER,
        {"if": {"required": ["user"]}, "then": {"properties": {"token": False, "token_file": False}}},
    ],
}


def _by_type(defs: Json) -> Json:
    """A channel: its type says which of the forms it has. A list of alternatives would leave an editor guessing."""
    form = defs.pop(UnknownChannel.__name__)
    rules = [
        {
            "if": {"properties": {"type": {"const": type_}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/{model.__name__}"},
        }
        for type_, model in CHANNEL_TYPES.items()
    ]
    properties = {key: form["properties"][key] for key in ("name", "type")}
    return {"type": "object", "required": ["name", "type"], "properties": properties, "allOf": rules}


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield from _models(inner)


def _with_files(schema: Json, model: type[BaseModel]) -> None:
    """Adds `x_file` for each secret `x`; exactly one of them where the secret is required."""
    for name in secret_fields(model):
        twin = f"{name}_file"
        described = f"Path of a file that holds {name}, read at each use; relative to this file."
        schema["properties"][twin] = {"type": "string", "minLength": 1, "description": described}
        if name in schema.get("required", ()):
            schema["required"] = [each for each in schema["required"] if each != name]
            schema.setdefault("allOf", []).append({"oneOf": [{"required": [name]}, {"required": [twin]}]})
        else:
            schema.setdefault("allOf", []).append({"not": {"required": [name, twin]}})


def _tidied(schema: Any) -> Any:  # noqa: ANN401  # any part of a schema
    """Without what TOML has no word for (null) and what says nothing (titles, defaults of whole tables)."""
    if isinstance(schema, list):
        return [_tidied(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {
        key: {name: _tidied(part) for name, part in value.items()} if key == "properties" else _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "default" and (value is None or isinstance(value, dict)))
    }
    if {"type": "null"} in tidy.get("anyOf", ()):
        real = [each for each in tidy.pop("anyOf") if each != {"type": "null"}]
        tidy = {**(real[0] if len(real) == 1 else {"anyOf": real}), **tidy}
    return tidy


def _open_to_variables(schema: Any) -> Any:  # noqa: ANN401  # any part of a schema
    """Lets `${NAME}` stand where a number, a yes or no, a choice or a certain form of text is asked for."""
    if isinstance(schema, list):
        return [_open_to_variables(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("type"), str) and _is_narrow(schema):
        about = {key: schema[key] for key in ("description", "default", "examples") if key in schema}
        narrow = {key: value for key, value in schema.items() if key not in about}
        return {**about, "anyOf": [narrow, _VARIABLE]}
    return {
        key: value if key in {"if", "propertyNames", "default", "examples"} else _open_to_variables(value)
        for key, value in schema.items()
    }


def _is_narrow(schema: Json) -> bool:
    return schema["type"] in {"integer", "number", "boolean"} or bool({"enum", "const", "pattern"} & schema.keys())
