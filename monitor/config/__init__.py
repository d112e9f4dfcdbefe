"""What the monitor is told to do: `Config.load` reads it, `Config` and its sections hold it, `Secret` hides values."""

from monitor.config.channels import ChannelConfig, RouteConfig
from monitor.config.connection import TlsConfig
from monitor.config.credentials import ApiKeyAuth, Auth, ClientCredentialsAuth
from monitor.config.durations import format_duration, parse_duration
from monitor.config.generic import ItemConfig, ListConfig, PageConfig
from monitor.config.rules import RuleOverride
from monitor.config.schedule import Schedule
from monitor.config.schema import Config
from monitor.config.secret import MASK, Secret
from monitor.config.targets import CheckConfig, SyncLogConfig, Target

__all__ = [
    "MASK",
    "ApiKeyAuth",
    "Auth",
    "ChannelConfig",
    "CheckConfig",
    "ClientCredentialsAuth",
    "Config",
    "ItemConfig",
    "ListConfig",
    "PageConfig",
    "RouteConfig",
    "RuleOverride",
    "Schedule",
    "Secret",
    "SyncLogConfig",
    "Target",
    "TlsConfig",
    "format_duration",
    "parse_duration",
]
