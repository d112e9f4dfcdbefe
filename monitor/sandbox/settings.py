"""How a sandbox behaves: its address, its credentials, its pace. It reads no file and no environment."""

import math
from dataclasses import dataclass

from monitor.errors import ConfigError
from monitor.sandbox.rate_limits import Rate

_DURATIONS = ("token_seconds", "item_seconds", "cache_seconds", "delete_lag_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How the sandbox behaves. Its credentials are no secret: they open nothing but the sandbox.

    Raises:
        ConfigError: a duration is no number of seconds, or is negative.
    """

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    client_id: str = "sandbox-client"
    client_secret: str = "sandbox-secret"  # noqa: S105  # opens nothing but the sandbox
    api_key: str = "sandbox-key"
    publisher_id: str = "11111111-1111-4111-8111-111111111111"
    foreign_publisher_id: str = "22222222-2222-4222-8222-222222222222"
    """A publisher that exists, but to which the credentials give no access."""
    token_seconds: float = 3600.0
    """How long a token lives; it really expires."""
    item_seconds: float = 6.0
    """How long an item takes through all its stages; 0 completes it at once."""
    cache_seconds: float = 300.0
    """How long an answer by producer id is kept, whatever happens to the item; 0 keeps none."""
    delete_lag_seconds: float = 0.0
    """How long a deleted item is still answered for."""
    rate: Rate | None = None
    """How many calls each credential may make; None sets no limit."""
    retry_after: bool = False
    """Whether a call beyond the rate is told `Retry-After` too; Gloo's reference does not mention it."""

    def __post_init__(self) -> None:
        seconds = {name: float(getattr(self, name)) for name in _DURATIONS}
        wrong = [name for name, value in seconds.items() if not (math.isfinite(value) and value >= 0)]
        if wrong:
            raise ConfigError([f"{name} of the sandbox is a number of seconds, 0 or more" for name in wrong])
