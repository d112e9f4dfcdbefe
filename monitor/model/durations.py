"""Durations as people write them, such as "1h30m", to `timedelta` and back. Pure; it knows no setting by name."""

import re
from dataclasses import dataclass
from datetime import timedelta

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_PATTERN = re.compile(
    r"(?:(\d{1,8})d)?(?:(\d{1,8})h)?(?:(\d{1,8})m)?(?:(\d{1,8})s)?(?:(\d{1,8})ms)?", re.ASCII
)  # fmt: skip
_UNGROUPED = "".join(rf"(\d{{1,8}}{unit})?" for unit in ("d", "h", "m", "s", "ms"))
_UNITS = ("days", "hours", "minutes", "seconds", "milliseconds")


def parse_duration(text: str) -> timedelta:
    """Reads whole numbers with the units d, h, m, s and ms, largest unit first: "30s", "1h30m", "500ms", "0s".

    Raises:
        ValueError: for anything else, a bare number included.
    """
    match = _PATTERN.fullmatch(text)
    if not text or match is None:
        raise ValueError("not a duration")
    return timedelta(**{unit: int(count) for unit, count in zip(_UNITS, match.groups(), strict=True) if count})


def format_duration(duration: timedelta) -> str:
    """The shortest form that `parse_duration` reads back; what lies below a millisecond is dropped."""
    left = duration // timedelta(milliseconds=1)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, size)
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


@dataclass(frozen=True, slots=True)
class DurationRange:
    """Marks a `timedelta` setting: written as a duration, no shorter and no longer than these (both included)."""

    shortest: str
    longest: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """How pydantic reads and dumps such a setting."""
        return core_schema.no_info_before_validator_function(
            self._read,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                format_duration, when_used="json-unless-none"
            ),
        )

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """What a file may hold for it; the bounds are a comment, since no pattern can say them."""
        bounds = f"{self.shortest} to {self.longest}"
        return {"type": "string", "pattern": f"^{_UNGROUPED}$", "minLength": 2, "$comment": bounds}

    def _read(self, value: object) -> timedelta:
        try:
            duration = (
                value if isinstance(value, timedelta) else parse_duration(value if isinstance(value, str) else "")
            )
        except ValueError:
            raise PydanticCustomError("duration", 'must be a duration such as "30s", "5m" or "1h30m"') from None
        if not parse_duration(self.shortest) <= duration <= parse_duration(self.longest):
            bounds = {"shortest": self.shortest, "longest": self.longest}
            raise PydanticCustomError("duration", "must be between {shortest} and {longest}", bounds)
        return duration
