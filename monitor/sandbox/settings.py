"""How a sandbox behaves: its address, its credentials, its pace. It reads no file and no environment."""

import math
from dataclasses import dataclass

from monitor.errors import ConfigError

__all__ = ["SandboxSettings"]


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

    def __post_init__(self) -> None:
        durations = {"token_seconds": self.token_seconds, "item_seconds": self.item_seconds}
        wrong = [name for name, seconds in durations.items() if not (math.isfinite(seconds) and seconds >= 0)]
        if wrong:
            raise ConfigError([f"{name} of the sandbox is a number of seconds, 0 or more" for name in wrong])
