"""`Section`, the base of every configuration table, and functions over such models. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from types import NoneType
from typing import Annotated, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

from monitor.config.secret import Secret, SecretFileReference


@dataclass(frozen=True, slots=True)
class Remedy:
    """The text after "is missing: " when a setting is missing."""

    text: str


class Section(BaseModel):
    """A frozen table. Unknown keys are errors, errors show no input, and a secret `x` can be given as `x_file`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _accept_secret_files(cls, raw: object) -> object:
        if not isinstance(raw, dict):
            return raw
        data = dict(raw)
        for name in secret_fields(cls):
            if (file := f"{name}_file") in data:
                path = data.pop(file)
                data[name] = SecretFileReference(path=path, conflicting=name in data)
        return data


def find_field(model: type[BaseModel], key: str | int) -> FieldInfo | None:
    """The field with this key in the file, if any."""
    return next((field for name, field in model.model_fields.items() if key == (field.alias or name)), None)


@cache  # asked for every table of a file, of which there may be thousands
def secret_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """The names of a model's secret fields, in order. A table of secrets has names of its own."""
    return tuple(
        name
        for name, field in model.model_fields.items()
        if Secret in _nested_types(field.annotation) and get_origin(field.annotation) is not Mapping
    )


def iter_secrets(value: object) -> Iterator[Secret]:
    """Every secret in a section and its subsections."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, BaseModel):
        for name in _fields_to_search(type(value)):
            yield from iter_secrets(getattr(value, name))
    elif isinstance(value, tuple | Mapping):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from iter_secrets(each)


_PLAIN = frozenset({str, int, float, bool, timedelta, NoneType})


@cache  # of a thousand targets each has dozens of fields
def _fields_to_search(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields of a model that may hold a secret: all but those of plain types."""
    return tuple(
        name for name, field in model.model_fields.items() if not _PLAIN.issuperset(_nested_types(field.annotation))
    )


def nested_models(annotation: object) -> tuple[type[BaseModel], ...]:
    """The models inside an annotation: `tuple[Target, ...]` has Target."""
    return tuple(each for each in _nested_types(annotation) if isinstance(each, type) and issubclass(each, BaseModel))


def _nested_types(annotation: object) -> tuple[object, ...]:
    arguments = get_args(annotation)
    if not arguments:
        return (annotation,)
    inner = arguments[:1] if get_origin(annotation) is Annotated else arguments
    return tuple(each for argument in inner for each in _nested_types(argument))
