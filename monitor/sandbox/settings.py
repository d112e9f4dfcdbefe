"""The sandbox's settings: address, credentials, timing. No file and no environment is read."""

import math
from dataclasses import dataclass

from monitor.errors import ConfigError
from monitor.sandbox.rate_limits import Rate

_DURATIONS = ("token_seconds", "item_seconds", "cache_seconds", "delete_lag_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How it behaves; its credentials are valid only here. ConfigError: a duration is negative or not finite."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 picks a free one."""
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105  # opens nothing but the sandbox
    api_key: str = "sandbox-key"
    publisher_id: str = "11111111-1111-4111-8111-111111111111"
    foreign_publisher_id: str = "22222222-2222-4222-8222-222222222222"
    """A publisher that exists, but that the credentials can't access."""
    token_seconds: float = 3600.0
    item_seconds: float = 6.0
    """How long an item takes through all its stages; 0 completes it at once."""
    cache_seconds: float = 300.0
    """How long an answer by producer id is cached, even if the item changes; 0: not at all."""
    delete_lag_seconds: float = 0.0
    """How long a deleted item is still found."""
    rate: Rate | None = None
    retry_after: bool = False
    """Whether a 429 of the rate limit has `Retry-After`, which Gloo's reference does not mention."""

    def __post_init__(self) -> None:
        seconds = {name: float(getattr(self, name)) for name in _DURATIONS}
        wrong = [name for name, value in seconds.items() if not (math.isfinite(value) and value >= 0)]
        if wrong:
            raise ConfigError([f"the sandbox's {name} must be a number of seconds, 0 or more" for name in wrong])
