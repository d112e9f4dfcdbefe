"""What the monitor is told to do: `Config.load` reads it, `Config` and its sections hold it, `Secret` hides values."""

from monitor.config.durations import format_duration, parse_duration
from monitor.config.schema import (
    ApiKeyAuth,
    ChannelConfig,
    CheckConfig,
    ClientCredentialsAuth,
    Config,
    RouteConfig,
    RuleOverride,
    Schedule,
    SyncLogConfig,
    Target,
)
from monitor.config.secret import MASK, Secret

__all__ = [
    "MASK",
    "ApiKeyAuth",
    "ChannelConfig",
    "CheckConfig",
    "ClientCredentialsAuth",
    "Config",
    "RouteConfig",
    "RuleOverride",
    "Schedule",
    "Secret",
    "SyncLogConfig",
    "Target",
    "format_duration",
    "parse_duration",
]
