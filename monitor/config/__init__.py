"""What the monitor is told to do: `Config.load` reads it, `Config` and its sections hold it, `Secret` hides values."""

from monitor.config.channel_settings import (
    AlertmanagerConfig,
    AppriseConfig,
    ChannelConfig,
    EmailConfig,
    LogConfig,
    PagerDutyConfig,
    SlackConfig,
    WebhookConfig,
)
from monitor.config.connection import ApiKeyAuth, Auth, ClientCredentialsAuth, TlsConfig
from monitor.config.generic import ItemConfig, ListConfig, PageConfig
from monitor.config.routes import RouteConfig
from monitor.config.rules import RuleOverride
from monitor.config.schedule import Schedule
from monitor.config.schema import Config
from monitor.config.secret import MASK, Secret
from monitor.config.targets import CheckConfig, SyncLogConfig, Target
from monitor.model.durations import format_duration, parse_duration

__all__ = [
    "MASK",
    "AlertmanagerConfig",
    "ApiKeyAuth",
    "AppriseConfig",
    "Auth",
    "ChannelConfig",
    "CheckConfig",
    "ClientCredentialsAuth",
    "Config",
    "EmailConfig",
    "ItemConfig",
    "ListConfig",
    "LogConfig",
    "PageConfig",
    "PagerDutyConfig",
    "RouteConfig",
    "RuleOverride",
    "Schedule",
    "Secret",
    "SlackConfig",
    "SyncLogConfig",
    "Target",
    "TlsConfig",
    "WebhookConfig",
    "format_duration",
    "parse_duration",
]
