"""Reads when a server says to come back: headers and body in, one sane duration out. Pure: it waits for nothing.

The first row that names a sane time wins; a row that does not is passed over, as if it were absent.

| # | where                        | read as                                                               | on       |
|---|------------------------------|-----------------------------------------------------------------------|----------|
| 1 | `retry-after-ms`             | milliseconds, decimals allowed                                        | any      |
| 2 | `retry-after`                | seconds in ASCII digits, or an HTTP date in any of its three forms    | any      |
| 3 | `x-ratelimit-reset`          | < 10⁸: seconds from now; < 10¹¹: Unix s; else Unix ms; or like "6m0s" | 429, 503 |
| 4 | `x-ratelimit-reset-requests` | as above (OpenAI sends durations)                                     | 429, 503 |
| 5 | body `retry_after`           | seconds, as a number or in ASCII digits, or a duration like "6m0s"    | any      |

Sane is a time after now: zero, past, negative, `nan`, `inf`, `²` and garbage are passed over, and the caller backs off
by its own rule. Instants are measured against the `Date` header, when it can be read, so that a clock that is off on
either side cancels out. Whatever is longer than an hour counts as an hour.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST_HINT", "retry_hint"]

LONGEST_HINT = timedelta(hours=1)
"""What a longer hint counts as."""

_LIMITED = frozenset({429, 503})
_DELTA_BELOW = 1e8
_SECONDS_BELOW = 1e11
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DURATION = re.compile(
    r"(?=[0-9])(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?)s)?(?:([0-9]+(?:\.[0-9]+)?)ms)?"
)
_DURATION_UNITS_S = (3600.0, 60.0, 1.0, 0.001)


def retry_hint(
    headers: Mapping[str, str], body_retry_after: object, *, now: datetime, status: int | None = 429
) -> timedelta | None:
    """When the server says to come back, counted from `now`.

    Args:
        headers: of the reply, names in lower case.
        body_retry_after: the body's `retry_after`, whatever it is; None when absent.
        now: our clock, aware.
        status: of the reply; the rate limit headers are routine on others than 429 and 503, and no hint.

    Returns:
        More than zero and at most `LONGEST_HINT`, or None when nothing sane was said. Never raises.
    """
    base = _http_date(headers.get("date", "")) or now
    waits_s = [_milliseconds(headers.get("retry-after-ms", "")), _retry_after(headers.get("retry-after", ""), base)]
    if status in _LIMITED:
        waits_s += [_reset(headers.get(name, ""), base) for name in ("x-ratelimit-reset", "x-ratelimit-reset-requests")]
    waits_s.append(_body(body_retry_after))
    for wait_s in waits_s:
        if wait_s is not None and wait_s > 0:
            return timedelta(seconds=min(wait_s, LONGEST_HINT.total_seconds()))
    return None


def _milliseconds(text: str) -> float | None:
    return float(text) / 1000 if _NUMBER.fullmatch(text.strip()) else None


def _retry_after(text: str, base: datetime) -> float | None:
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    instant = _http_date(text)
    return (instant - base).total_seconds() if instant else None


def _reset(text: str, base: datetime) -> float | None:
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return _duration(text)
    number = float(text)
    if number < _DELTA_BELOW:
        return number
    return (number if number < _SECONDS_BELOW else number / 1000) - base.timestamp()


def _body(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else _duration(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        # bounded first: a float can't hold an integer of any size
        return float(max(0, min(value, int(LONGEST_HINT.total_seconds()))))
    return value if math.isfinite(value) else None


def _duration(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    return sum(float(part) * unit_s for part, unit_s in zip(match.groups("0"), _DURATION_UNITS_S, strict=True))


def _http_date(text: str) -> datetime | None:
    if not text.isascii():
        return None
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
