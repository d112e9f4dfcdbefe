"""Durations in text form, such as "1h30m", to `timedelta` and back; the exponential backoff. Pure."""

import re
from dataclasses import dataclass
from datetime import timedelta

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_PATTERN = re.compile(
    r"(?:(\d{1,8})w)?(?:(\d{1,8})d)?(?:(\d{1,8})h)?(?:(\d{1,8})m)?(?:(\d{1,8})s)?(?:(\d{1,8})ms)?", re.ASCII
)  # fmt: skip
_UNGROUPED = "".join(rf"(\d{{1,8}}{unit})?" for unit in ("w", "d", "h", "m", "s", "ms"))
_UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")


def parse_duration(text: str) -> timedelta:
    """Parses whole numbers with w, d, h, m, s or ms, in this order: "1h30m". ValueError, also for a bare number."""
    match = _PATTERN.fullmatch(text)
    if not text or match is None:
        raise ValueError("not a duration")
    return timedelta(**{unit: int(count) for unit, count in zip(_UNITS, match.groups(), strict=True) if count})


def bounded_duration(text: str, *, minimum: timedelta, maximum: timedelta, examples: str) -> timedelta:
    """Parses a duration from `minimum` to `maximum`. ValueError says what is wrong, with `examples`, as a clause."""
    try:
        found = parse_duration(text)
    except ValueError:
        found = None
    if found is None or not minimum <= found <= maximum:
        bounds = f"{format_duration(minimum)} to {format_duration(maximum)}"
        raise ValueError(f"{text!a} is no duration from {bounds}; write it as in {examples}")
    return found


def format_duration(duration: timedelta) -> str:
    """The shortest form that `parse_duration` accepts; fractions of a millisecond are dropped."""
    left = duration // timedelta(milliseconds=1)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, size)
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


def exponential_backoff_s(failures: int, *, initial_s: float, max_s: float, jitter: float) -> float:
    """Seconds to wait before the next attempt: `jitter · min(max_s, initial_s · 2ⁿ)`.

    n is `failures`: how many attempts failed before the last one (≥ 0). `jitter` is from 0 to 1, usually random, so
    that many clients don't retry at the same time.
    """
    return jitter * min(max_s, initial_s * 2.0 ** min(failures, 64))


@dataclass(frozen=True, slots=True)
class DurationRange:
    """Annotates a `timedelta` setting that is written as a duration, with its bounds (both included)."""

    shortest: str
    longest: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validation and serialization for pydantic."""
        return core_schema.no_info_before_validator_function(
            self._read,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(
                format_duration, when_used="json-unless-none"
            ),
        )

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        """The JSON schema; a pattern cannot express the bounds, so they are a comment."""
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
