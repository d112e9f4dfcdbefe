"""The table `[targets.sync_log]`: where a pipeline records its uploads, and how its rows are read. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from monitor.config.fields import DatabaseUrl, Text, did_you_mean, invalid_value, quote_name
from monitor.config.request_fields import ParamName
from monitor.config.section import Remedy, Section
from monitor.config.sync_log_presets import load_preset, preset_names
from monitor.model.json_path import parse_json_path

Value = str | bool | int | float
_TIME_FORMATS = ("auto", "s", "ms", "us", "ns", "julian")
_SOME_TIME = datetime(2026, 11, 20, 8, 30, 59, tzinfo=UTC)
_SERVER = "server"
_MAX_VALUES = 1000
"""Of one column of `where`; databases limit how many values a query has."""


def _validate_where(where: object) -> object:
    if not isinstance(where, Mapping):
        raise invalid_value(
            'must be a table of columns and values, such as { status = ["done"], deleted_at = "null" }; it takes no SQL'
        )
    return {name: _condition(name, wanted) for name, wanted in where.items()}


def _condition(name: object, wanted: object) -> object:
    several = isinstance(wanted, list | tuple)
    values = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
    if not values or not all(isinstance(value, Value) for value in values):
        raise invalid_value(
            f'must give the column {quote_name(str(name))} a text, a number, true or false, or a list of them; "null" '
            'and "not null" stand for themselves'
        )
    if len(values) > _MAX_VALUES:
        raise invalid_value(
            f"gives the column {quote_name(str(name))} over {_MAX_VALUES} values: let a view choose the rows instead"
        )
    return values if several else wanted


def _validate_time_zone(value: str) -> str:
    if value == _SERVER:
        return value
    try:
        ZoneInfo(value)
    # KeyError: an unknown name; OSError: a folder of zones; ValueError: a path
    except (KeyError, ValueError, OSError):
        raise invalid_value(
            'must be the name of a time zone, such as "Europe/Paris" or "UTC", or "server" for the zone of the '
            "PostgreSQL server"
        ) from None
    return value


def _validate_id_path(path: str) -> str:
    try:
        parse_json_path(path)
    except ValueError as error:
        raise invalid_value(str(error)) from None
    return path


def time_format_problem(value: str) -> str | None:
    """Why a value is no `time_format`, as a predicate ("must …"); None if it is one."""
    if value in _TIME_FORMATS:
        return None
    try:
        read = datetime.strptime(_SOME_TIME.strftime(value), value)  # noqa: DTZ007  # only its date is compared
    except ValueError:
        read = None
    if read is not None and read.date() == _SOME_TIME.date():
        return None
    return (
        'must be "auto", "s", "ms", "us", "ns", "julian", or a pattern of strptime with year, month and day, such as '
        '"%d.%m.%Y %H:%M"'
    )


def _validate_time_format(value: str) -> str:
    if problem := time_format_problem(value):
        raise invalid_value(problem)
    return value


_ID_PATH_SCHEMA = Field(
    json_schema_extra={"pattern": r"""^\$(\.[^\s.*\[\]"'()?@$,:]+|\[[0-9]+\]|\["[^"]([^"]|\\")*"\]|\['[^']+'\])*$"""}
)
_TIME_FORMAT_SCHEMA = Field(json_schema_extra={"pattern": "^(auto|s|ms|us|ns|julian|.*%[YyGcx].*)$"})

Where = Annotated[
    Mapping[Text, Value | tuple[Value, ...]],
    BeforeValidator(_validate_where),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    {"type": ["string", "number", "boolean"]},
                    {"type": "array", "items": {"type": ["string", "number", "boolean"]}, "minItems": 1},
                ]
            },
        }
    ),
]


class SyncLogConfig(Section):
    """The table where the pipeline records its uploads. The monitor only reads it."""

    url: Annotated[DatabaseUrl, Remedy("give the connection URL of the database that holds your sync log")] = Field(
        description="Your pipeline's database: sqlite:///path or postgresql://user:password@host/name.",
        examples=["sqlite:///pipeline.db"],
    )
    preset: Text | None = Field(
        default=None,
        description="The tool that writes the table. It fills the settings below that you leave out, as "
        "docs/sync-log.md says.",
        json_schema_extra={"enum": list(preset_names())},
    )
    table: Text = Field(
        default="sync_log",
        description="The table or view with one row per uploaded item; on PostgreSQL also `schema.table`.",
    )
    where: Where = Field(
        default_factory=dict,
        description="The rows that count, by column: equal to a value, or to one of a list; `null` or `not null`. All "
        "columns have to match. Other rows are not there.",
        examples=[{"status": ["done"], "deleted_at": "null"}],
    )
    id_column: Text = Field(default="item_id", description="The column with the item's id, as the API knows it.")
    id_path: Annotated[Text, _ID_PATH_SCHEMA, AfterValidator(_validate_id_path)] | None = Field(
        default=None,
        description="Where the id is in the column, if that holds JSON: members and positions.",
        examples=["$.item_id"],
    )
    id_format: Literal["auto", "as_is", "uuid"] = Field(
        default="auto",
        description="UUIDs without dashes, as 16 bytes, in capitals, in braces or as `urn:uuid:` become 8-4-4-4-12 "
        "digits: with `auto` if the provider's ids are UUIDs (gloo), with `uuid` always, and then nothing else is an "
        "id; with `as_is` never.",
    )
    submitted_at_column: Text | None = Field(
        default=None,
        description="The column with the upload time, in any form of `time_format`. Without it, an item's age counts "
        "from when the monitor first saw it.",
    )
    time_format: Annotated[Text, _TIME_FORMAT_SCHEMA, AfterValidator(_validate_time_format)] = Field(
        default="auto",
        description="`auto`: ISO text, a native time, or Unix seconds, milliseconds, microseconds or nanoseconds, told "
        "apart by their size. `s`, `ms`, `us`, `ns`: numbers in this unit. `julian`: Julian days. Else a pattern of "
        "Python's strptime.",
        examples=["%d.%m.%Y %H:%M"],
    )
    timezone: Annotated[str, Field(max_length=100), AfterValidator(_validate_time_zone)] = Field(
        default="UTC",
        description="The time zone of times that have none; `server` is that of the PostgreSQL server, as the database "
        "or the monitor's role sets it.",
    )
    duplicates: Literal["first", "earliest"] = Field(
        default="first",
        description="Of several rows with one id, which counts: the `first`, or that with the `earliest` upload time.",
    )
    group_column: Text | None = Field(
        default=None, description="A column that groups reports and incidents, such as a collection or a customer."
    )
    updated_at_column: Text | None = Field(
        default=None,
        description="The column with the time of a row's last change. With it a run reads only what may have changed, "
        "and once a day the whole log. A change that leaves it as it was is seen within a day.",
    )
    param_columns: Mapping[ParamName, Text] = Field(
        default_factory=dict,
        description="The columns with the path parameters of a row, by parameter, for a log of several stores. A row "
        "without one of them is counted and not asked about.",
        examples=[{"vector_store_id": "store"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, raw: object) -> object:
        return {**preset_settings(raw), **raw} if isinstance(raw, dict) else raw

    @field_validator("preset")
    @classmethod
    def _validate_preset(cls, name: str | None) -> str | None:
        if name is not None and name not in preset_names():
            near, known = did_you_mean(name, preset_names()), ", ".join(preset_names())
            raise invalid_value(f"is not a known preset{f'{near} Known are' if near else '; known are'} {known}")
        return name

    @field_validator("timezone")
    @classmethod
    def _validate_server_zone(cls, timezone: str, info: ValidationInfo) -> str:
        url = info.data.get("url")
        if timezone == _SERVER and url is not None and url.reveal().startswith("sqlite:"):
            if preset_settings(info.data).get("timezone") == _SERVER:
                return "UTC"  # the preset serves both databases
            raise invalid_value(
                'can\'t be "server" with SQLite, which has none: name the zone that the pipeline writes, such as '
                '"Europe/Paris"'
            )
        return timezone


def preset_settings(sync_log: Mapping[str, object]) -> Mapping[str, object]:
    """What the preset of a table `[targets.sync_log]`, validated or not, fills; nothing if it has none."""
    name = sync_log.get("preset")
    return load_preset(name).settings if isinstance(name, str) and name in preset_names() else {}
