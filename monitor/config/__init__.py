"""Configuration: `load_config` reads `monitor.toml`, `.env` and the environment into a `Config`, made of sections.

`Secret` hides values. Errors are sentences with a key and a remedy. What the settings build is in `monitor.app`.
"""

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
from monitor.config.connection import ApiKeyConfig, AwsConfig, ClientCredentialsConfig, PasswordConfig, TlsConfig
from monitor.config.load import load_config
from monitor.config.rules import RouteConfig, RuleConfig
from monitor.config.schedule import ScheduleConfig
from monitor.config.schema import Config
from monitor.config.secret import MASK, Secret
from monitor.config.slos import SloConfig
from monitor.config.sync_log import SyncLogConfig
from monitor.config.targets import CheckConfig, TargetConfig

__all__ = [
    "MASK",
    "AlertmanagerConfig",
    "ApiKeyConfig",
    "AppriseConfig",
    "AwsConfig",
    "ChannelConfig",
    "CheckConfig",
    "ClientCredentialsConfig",
    "Config",
    "EmailConfig",
    "LogConfig",
    "PagerDutyConfig",
    "PasswordConfig",
    "RouteConfig",
    "RuleConfig",
    "ScheduleConfig",
    "Secret",
    "SlackConfig",
    "SloConfig",
    "SyncLogConfig",
    "TargetConfig",
    "TlsConfig",
    "WebhookConfig",
    "load_config",
]
