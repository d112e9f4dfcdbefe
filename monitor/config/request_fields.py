"""Types of what a request is made of: paths and bodies with placeholders, places in JSON bodies, headers. Pure."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from monitor.config.fields import HeaderSecret, invalid_value, quote_name, require
from monitor.config.secret import SecretFileReference
from monitor.providers.id_pattern import compile_id_pattern
from monitor.providers.paths import path_problem

_PATH = re.compile(r"/(?!/)[!-~]*", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_QUERY_PARAMETER = re.compile(r"[A-Za-z0-9._~\[\]-]{1,100}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z0-9._-]{0,50}", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?", re.ASCII)
_MAX_BODY_DEPTH = 20
_MAX_SCALAR_CHARS = 200
ITEM_NAMES = frozenset({"item_id", "item_id:path", "item_ids"})
"""The placeholders for ids; every other one is a parameter of the target or of a row."""
CANARY_NAMES = ("name", "marker", "text", "query")
"""What every step of a canary knows of its document."""
_RESERVED_HEADERS = {
    "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie",
    "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding",
    "upgrade",
}  # fmt: skip
"""Headers that the client sets itself, or that hold credentials, which belong under auth."""


def placeholders(template: object) -> Iterator[str]:
    """The names in braces, of a path or of every text in a JSON body."""
    if isinstance(template, str):
        yield from _PLACEHOLDER.findall(template)
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from placeholders(value)
    elif isinstance(template, list | tuple):
        for value in template:
            yield from placeholders(value)


_validate_path = require(
    lambda path: _PATH.fullmatch(path) and "#" not in path,
    'must begin with one "/" and contain no spaces or "#": escape them as %20 and %23',
)


def _validate_placeholders(path: str, *, of_item: bool) -> str:
    _validate_path(path)
    if set("{}") & set(_PLACEHOLDER.sub("", path)):
        raise invalid_value("contains a brace without its partner: write a placeholder as {name}")
    for name in placeholders(path):
        if name in ITEM_NAMES and not of_item:
            raise invalid_value(f"contains {{{name}}}, but a list is not about one item: remove it")
        if name not in ITEM_NAMES and not _PARAM.fullmatch(name):
            raise invalid_value("has an unknown placeholder: use {item_id}, or the name of one of the target's params")
    return path


_validate_one_item = require(
    lambda path: sum(name in ITEM_NAMES for name in placeholders(path)) <= 1,
    'must contain {item_id} once, as in "/documents/{item_id}"',
)


def _validate_body(body: object, depth: int = 0) -> object:
    """A JSON value: TOML's dates and times are none."""
    if depth > _MAX_BODY_DEPTH:
        raise invalid_value(f"is nested more than {_MAX_BODY_DEPTH} levels deep: make it flatter")
    if isinstance(body, Mapping):
        return {str(key): _validate_body(value, depth + 1) for key, value in body.items()}
    if isinstance(body, list | tuple):
        return [_validate_body(value, depth + 1) for value in body]
    if isinstance(body, float) and not math.isfinite(body):
        raise invalid_value(f"must be a JSON value: JSON has no {body}")
    if body is not None and not isinstance(body, str | int | float | bool):
        raise invalid_value("must be a JSON value: write dates and times as text in quotes")
    return body


def _validate_place(path: str, *, each: bool = False, whole: bool = False) -> str:
    """A place in a JSON body; `*` stands for every element, where that is possible."""
    if problem := path_problem(path, each=each, whole=whole):
        raise invalid_value(problem)
    return path


def _validate_id_pattern(pattern: str) -> str:
    try:
        compile_id_pattern(pattern)
    except ValueError as error:
        raise invalid_value(str(error)) from None
    return pattern


def _validate_key_header(name: str) -> str:
    if not _TOKEN.fullmatch(name) or name.lower() in _RESERVED_HEADERS - {"authorization"}:
        raise invalid_value(
            f'must be the name of a header for a key, such as "X-API-Key"; {quote_name(name)} can\'t hold one'
        )
    return name


def _validate_header_names(headers: Mapping[str, object]) -> None:
    for name in headers:
        if not _TOKEN.fullmatch(name):
            raise invalid_value(
                f"names {quote_name(name)}, which is not a header name: use letters, digits and hyphens"
            )
        if name.lower() in _RESERVED_HEADERS:
            raise invalid_value(
                f"names {quote_name(name)}, which the monitor sets itself: remove it (put credentials under auth)"
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise invalid_value("names one header twice: header names ignore case, so keep one")


def _validate_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    _validate_header_names(headers)
    for name, value in headers.items():
        if not _VALUE.fullmatch(value):
            raise invalid_value(
                f"gives {quote_name(name)} a value that a header can't contain: use 1 to 1000 plain ASCII characters"
            )
    return headers


def _accept_secret_files(raw: object) -> object:
    """`X-Key_file = path` in place of `X-Key = secret`. No header that is in use ends with `_file`."""
    if not isinstance(raw, Mapping):
        return raw
    data = dict(raw)
    for key in [key for key in data if isinstance(key, str) and key.endswith("_file")]:
        name = key.removesuffix("_file")
        data[name] = SecretFileReference(path=data.pop(key), conflicting=name in data)
    return data


def _validate_secret_headers(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    _validate_header_names(headers)
    return headers


def _validate_param_name(name: str) -> str:
    if not _PARAM.fullmatch(name) or name in {"item_id", "item_ids"}:
        raise invalid_value("must be the name of a placeholder: letters, digits and underscores, not item_id")
    return name


def _validate_step_path(path: str) -> str:
    _validate_path(path)
    if set("{}") & set(_PLACEHOLDER.sub("", path)):
        raise invalid_value("contains a brace without its partner: write a placeholder as {name}")
    return path


def _validate_kept_name(name: str) -> str:
    if not _PARAM.fullmatch(name) or name in CANARY_NAMES:
        raise invalid_value(
            "must be a name of its own for a placeholder: letters, digits and underscores, and none of "
            f"{', '.join(CANARY_NAMES)}"
        )
    return name


def _validate_scalar(value: object) -> object:
    """Before the type is chosen, so that a wrong value has one sentence and not one for each type."""
    is_text = isinstance(value, str) and value.isprintable() and value.strip() and len(value) <= _MAX_SCALAR_CHARS
    is_number = isinstance(value, bool | int | float) and math.isfinite(value)
    if not (is_text or is_number):
        raise invalid_value(
            f"must be a number, true, false, or printable text of 1 to {_MAX_SCALAR_CHARS} characters; null is called "
            '"null"'
        )
    return value


def _validate_http_status(status: int) -> int:
    if status in {401, 402, 407, 408, 429}:
        raise invalid_value(
            f"can't be {status}, which is about the key, the account or the rate: use [[targets.errors]]"
        )
    return status


RequestPath = Annotated[
    str, Field(max_length=1000, json_schema_extra={"pattern": "^/"}), AfterValidator(_validate_path)
]
"""A path below the base URL, with or without a query."""

_Path = Annotated[str, Field(max_length=1000, json_schema_extra={"pattern": "^/"})]

ItemPath = Annotated[
    _Path, AfterValidator(partial(_validate_placeholders, of_item=True)), AfterValidator(_validate_one_item)
]
StepPath = Annotated[_Path, AfterValidator(_validate_step_path)]
ListPath = Annotated[_Path, AfterValidator(partial(_validate_placeholders, of_item=False))]
Body = Annotated[object, AfterValidator(_validate_body)]

_Place = Annotated[str, Field(max_length=200)]

DottedPath = Annotated[_Place, AfterValidator(_validate_place)]
"""A place in a JSON body: keys, and positions in arrays, separated by dots."""

DottedPathOrBody = Annotated[_Place, AfterValidator(partial(_validate_place, whole=True))]
"""The same; an empty text is the whole body."""

StarPathOrValue = Annotated[_Place, AfterValidator(partial(_validate_place, each=True, whole=True))]
"""A place, or with one `*` several; an empty text is the value itself."""


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_one_or_more_schema = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}]}
)


def _validate_places(paths: tuple[str, ...], *, whole: bool) -> tuple[str, ...]:
    """One place was written as a text, so the error is the setting's own."""
    for path in paths:
        _validate_place(path, each=True, whole=whole)
    return paths


_Places = Annotated[
    tuple[_Place, ...],
    Field(min_length=1),
    BeforeValidator(_one_or_more),
    PlainSerializer(lambda paths: paths[0] if len(paths) == 1 else list(paths), when_used="json"),
    _one_or_more_schema,
]
StatusPlaces = Annotated[_Places, AfterValidator(partial(_validate_places, whole=True))]
StarPlaces = Annotated[_Places, AfterValidator(partial(_validate_places, whole=False))]
"""One place, or several of which the first counts that is there; each may have one `*`."""

WholePlaces = Annotated[
    tuple[DottedPathOrBody, ...],
    Field(min_length=1),
    BeforeValidator(_one_or_more),
    PlainSerializer(lambda paths: paths[0] if len(paths) == 1 else list(paths), when_used="json"),
    _one_or_more_schema,
]
"""One place, or several of which the first counts that is there."""

JsonScalar = Annotated[
    bool | int | float | str,
    BeforeValidator(_validate_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean"], "pattern": r"\S", "maxLength": _MAX_SCALAR_CHARS}),
]
"""A value at a place in a body; texts are compared without regard to case, and "null" is null."""

HttpStatus = Annotated[int, Field(ge=200, le=599)]
MissingStatus = Annotated[int, Field(ge=400, le=499), AfterValidator(_validate_http_status)]

QueryParameter = Annotated[
    str,
    AfterValidator(
        require(_QUERY_PARAMETER.fullmatch, 'must be the name of a query parameter, such as "page" or "limit"')
    ),
]
IdPattern = Annotated[str, Field(max_length=1000), AfterValidator(_validate_id_pattern)]
ParamName = Annotated[str, AfterValidator(_validate_param_name)]
KeptName = Annotated[str, AfterValidator(_validate_kept_name)]
FormField = Annotated[
    str,
    AfterValidator(
        require(
            lambda name: name.strip() and name.isprintable() and len(name) <= 100,
            'must be the name of a form\'s field, such as "file"',
        )
    ),
]
HeaderName = Annotated[str, AfterValidator(_validate_key_header)]
Headers = Annotated[Mapping[str, str], AfterValidator(_validate_headers)]
SecretHeaders = Annotated[
    Mapping[str, HeaderSecret], BeforeValidator(_accept_secret_files), AfterValidator(_validate_secret_headers)
]
AuthScheme = Annotated[
    str, AfterValidator(require(_SCHEME.fullmatch, 'must be one word such as "Bearer", or "" for the bare key'))
]
