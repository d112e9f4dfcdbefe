"""Rates as people write them, such as "100/m", to requests per second; shares. Pure; it knows no setting by name."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from monitor.config.checks import wrong

__all__ = ["Rate", "Share"]

_COUNT = r"[1-9][0-9]{0,7}(\.[0-9]{1,6})?|0\.[0-9]{0,5}[1-9][0-9]{0,5}"
"""A number above zero: one that begins with 0 has another digit behind the point."""
_PATTERN = re.compile(rf"(?P<count>{_COUNT})/(?P<unit>[smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Rate(float):
    """Requests per second (above zero), which remember how they were written.

    It is made from a decimal number above zero and what that is per: "50/s", "0.5/s", "100/m", "3000/h".

    Raises:
        ValueError: for anything else.
    """

    __slots__ = ("written",)
    written: str

    def __new__(cls, written: str) -> Self:
        """Reads what was written."""
        match = _PATTERN.fullmatch(written)
        if match is None:
            raise ValueError("not a rate")
        made = super().__new__(cls, float(match["count"]) / _SECONDS[match["unit"]])
        made.written = written
        return made

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # a copy is made from what was written
        return (self.written,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic reads one and dumps it (as it was written)."""
        written = core_schema.plain_serializer_function_ser_schema(lambda rate: rate.written, when_used="json")
        return core_schema.no_info_plain_validator_function(cls._read, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """What a file may hold for it."""
        return {"type": "string", "pattern": f"^({_COUNT})/[smh]$"}

    @classmethod
    def _read(cls, value: object) -> Self:
        try:
            return value if isinstance(value, cls) else cls(value if isinstance(value, str) else "")
        except ValueError:
            raise wrong('must be a rate above zero, such as "50/s", "100/m" or "3000/h"') from None


def _share(value: float) -> float:
    if not 0 < value <= 1:
        raise wrong("must be above 0 and at most 1, such as 0.5")
    return value


Share = Annotated[float, AfterValidator(_share), Field(json_schema_extra={"exclusiveMinimum": 0, "maximum": 1})]
"""A share above 0, up to 1 for all of it."""
