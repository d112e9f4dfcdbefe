"""Rate limits: requests per credential, as a bucket that fills steadily. It reads no clock."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_RATE = re.compile(r"(\d{1,9})/(\d{0,6})([smh])", re.ASCII)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_ROUNDING = 1e-6  # of a request; floating-point error


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`count` (≥ 1) requests in `per_s` seconds; all of them may come at once."""

    count: int
    per_s: float


def parse_rate(text: str) -> Rate:
    """Reads a rate such as "50/s", "600/m", "1000/h" or "5/10s". Raises ValueError with one sentence."""
    match = _RATE.fullmatch(text)
    count, many, unit = match.groups() if match else ("0", "0", "s")
    rate = Rate(count=int(count), per_s=int(many or 1) * _UNITS[unit])
    if not rate.count or not rate.per_s:
        raise ValueError(f"{text!r} is not a rate: write requests per s, m or h, such as 50/s, 600/m or 5/10s")
    return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitDecision:
    """Whether a request is accepted; when the bucket will be full, and the next one accepted (clock of `now_s`)."""

    allowed: bool
    limit: int
    remaining: int
    full_at_s: float
    next_at_s: float

    def headers(self, *, unix_s: float, now_s: float, retry_after: bool) -> Mapping[str, str]:
        """The `X-RateLimit-*` of Gloo's reference, rounded up so that a client that waits is accepted."""
        headers = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(math.ceil(unix_s + self.full_at_s - now_s)),
        }
        if retry_after and not self.allowed:
            headers["Retry-After"] = str(max(1, math.ceil(self.next_at_s - now_s)))
        return headers


@dataclass(slots=True, kw_only=True)
class TokenBuckets:
    """One bucket per credential: it begins full, holds `rate.count` requests, and refills evenly in `rate.per_s`."""

    rate: Rate
    _tokens: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By credential: requests left, and when that was counted."""

    def take(self, credential: str, now_s: float) -> RateLimitDecision:
        """Counts one request; a refused one costs nothing."""
        rate = self.rate
        tokens, since_s = self._tokens.get(credential, (float(rate.count), now_s))
        tokens = min(tokens + (now_s - since_s) * rate.count / rate.per_s, float(rate.count))
        allowed = tokens >= 1 - _ROUNDING
        tokens = max(tokens - 1, 0.0) if allowed else tokens
        self._tokens[credential] = (tokens, now_s)
        call_s = rate.per_s / rate.count
        return RateLimitDecision(
            allowed=allowed,
            limit=rate.count,
            remaining=int(tokens + _ROUNDING),
            full_at_s=now_s + (rate.count - tokens) * call_s,
            next_at_s=now_s + max(1 - tokens, 0.0) * call_s,
        )
