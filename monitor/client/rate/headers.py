"""Reads a reply's rate-limit headers: requests per window, requests left, time until the next window. It decides
nothing.

The first family that names a limit or what remains wins.

| # | family                   | read as                                                                              |
|---|--------------------------|--------------------------------------------------------------------------------------|
| 1 | `x-ratelimit-*`          | `limit`, `remaining`, `reset`                                                        |
| 2 | `x-ratelimit-*-requests` | the same (OpenAI)                                                                    |
| 3 | `ratelimit-*`            | the same (IETF drafts to 06); windows as in `100, 100;w=60` or `ratelimit-policy`    |
| 4 | `ratelimit`              | `"name";r=50;t=30` with `ratelimit-policy: "name";q=100;w=60` (drafts from 08), of   |
|   |                          | several the one that allows least; or `limit=100, remaining=50, reset=30` (draft 07) |

Counts are at most fifteen ASCII digits; anything else is ignored. `retry_after` reads the reset.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from monitor.client.retry_after import parse_retry_after

_COUNT = re.compile(r"\s*([0-9]{1,15})(?:\.0{1,9})?\s*(?:[,;].*)?", re.DOTALL)
_PARAMETER = re.compile(r"([a-z]{1,9})\s*=\s*([0-9]{1,15})(?![0-9])")
_FAMILIES = (
    ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
    ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
)
_MAX_HEADER_CHARS = 1000
"""Characters of a header that are read."""

_Texts = tuple[str, str, str, str]
_Parsed = tuple[int | None, float | None, float | None]


class RateLimitHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """The rate limit that one reply states; None: not stated."""

    limit: int | None = None
    """Requests per window (≥ 1)."""
    remaining: int | None = None
    """Requests left in this window (≥ 0)."""
    reset_in_s: float | None = None
    """Seconds until the next window (> 0, at most an hour), from the reply; often rounded up."""
    window_s: float | None = None
    """Length of a window (> 0), if a policy states it."""


class RateLimitHeaderReader:
    """Reads the many replies of one API: what repeats from reply to reply is parsed once."""

    __slots__ = ("_parsed", "_texts")

    def __init__(self) -> None:
        self._texts: _Texts | None = None
        self._parsed: _Parsed = (None, None, None)

    def read(self, headers: Mapping[str, str], now: datetime) -> RateLimitHeaders | None:
        """The rate limit in a reply's headers (names in lower case); None without a limit and a remaining count. Never
        raises.

        `now` is our clock, aware; it is used for a reset if the reply has no `Date`.
        """
        for limit_text, remaining_text, reset, policy in _families(headers):
            remaining = _count(remaining_text)
            limit, reset_in_s, window_s = self._read_cached((limit_text, reset, policy, headers.get("date", "")), now)
            if limit is not None or remaining is not None:
                return RateLimitHeaders(limit=limit, remaining=remaining, reset_in_s=reset_in_s, window_s=window_s)
        return None

    def _read_cached(self, texts: _Texts, now: datetime) -> _Parsed:
        limit_text, reset, policy, date = texts
        # without a date, a reset is relative to our own clock, which has moved on
        if texts != self._texts or not date:
            limit = _count(limit_text) or None
            hint = parse_retry_after({"x-ratelimit-reset": reset, "date": date}, None, now=now)
            window_s = _window_s(policy, limit) or _window_s(limit_text, limit)
            self._texts, self._parsed = texts, (limit, hint.total_seconds() if hint else None, window_s)
        return self._parsed


def states_rate_limit(headers: Mapping[str, str]) -> bool:
    """Whether any of the headers is there that `read` looks at; most APIs have none."""
    # written out for speed: this runs for every reply
    return (
        "x-ratelimit-remaining" in headers
        or "x-ratelimit-limit" in headers
        or "ratelimit" in headers
        or "ratelimit-remaining" in headers
        or "ratelimit-limit" in headers
        or "x-ratelimit-remaining-requests" in headers
        or "x-ratelimit-limit-requests" in headers
    )


def _families(headers: Mapping[str, str]) -> Iterator[_Texts]:
    """Limit, remaining, reset and policy of each family that is present, as texts."""
    policy = headers.get("ratelimit-policy", "")[:_MAX_HEADER_CHARS]
    for family in _FAMILIES:
        limit, remaining, reset = (headers.get(name, "")[:_MAX_HEADER_CHARS] for name in family)
        if limit or remaining:
            yield limit, remaining, reset, policy
    yield from _structured(headers.get("ratelimit", "")[:_MAX_HEADER_CHARS], policy)


def _structured(text: str, policy: str) -> Iterator[_Texts]:
    """The same for `ratelimit`: draft 07 has all three in one list, the later ones an item for each policy."""
    parameters = _parameters(text)
    if "limit" in parameters or "remaining" in parameters:
        yield parameters.get("limit", ""), parameters.get("remaining", ""), parameters.get("reset", ""), policy
        return
    items = [(part, found) for part in text.split(",") if "r" in (found := _parameters(part))]
    if items:
        part, found = min(items, key=lambda item: int(item[1]["r"]) / max(1, int(item[1].get("t", "1"))))
        own = next((entry for entry in policy.split(",") if _name(entry) == _name(part)), "")
        yield _parameters(own).get("q", ""), found["r"], found.get("t", ""), own


def _name(item: str) -> str:
    return item.partition(";")[0].strip()


def _window_s(text: str, limit: int | None) -> float | None:
    """The window of the policy with this limit, such as `100;w=60` or `"name";q=100;w=60`."""
    for part in text.split(","):
        found = _parameters(part)
        if limit is not None and "w" in found and limit == _count(found.get("q", part)):
            return float(found["w"]) or None
    return None


def _parameters(text: str) -> dict[str, str]:
    return dict(_PARAMETER.findall(text))


def _count(text: str) -> int | None:
    match = _COUNT.fullmatch(text)
    return int(match[1]) if match else None
