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
from monitor.config.connection import ApiKeyConfig, AuthConfig, ClientCredentialsConfig, TlsConfig
from monitor.config.generic_provider import ItemConfig, ListConfig, PaginationConfig
from monitor.config.routes import RouteConfig
from monitor.config.rules import RuleConfig
from monitor.config.schedule import ScheduleConfig
from monitor.config.schema import Config
from monitor.config.secret import MASK, Secret
from monitor.config.targets import CheckConfig, SyncLogConfig, TargetConfig
from monitor.model.durations import format_duration, parse_duration

__all__ = [
    "MASK",
    "AlertmanagerConfig",
    "ApiKeyConfig",
    "AppriseConfig",
    "AuthConfig",
    "ChannelConfig",
    "CheckConfig",
    "ClientCredentialsConfig",
    "Config",
    "EmailConfig",
    "ItemConfig",
    "ListConfig",
    "LogConfig",
    "PagerDutyConfig",
    "PaginationConfig",
    "RouteConfig",
    "RuleConfig",
    "ScheduleConfig",
    "Secret",
    "SlackConfig",
    "SyncLogConfig",
    "TargetConfig",
    "TlsConfig",
    "WebhookConfig",
    "format_duration",
    "parse_duration",
]
