"""The settings: one frozen model per table of `monitor.toml`, its attributes named as the keys are.

It says what a value may be and what it is when left out; it reads neither files nor environment (`Config.load`
hands that to `load`).
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, PrivateAttr, Tag, ValidationInfo, field_validator

from monitor.config.addresses import api_base
from monitor.config.checks import Cron, DatabaseUrl, HeaderSecret, Name, Patterns, Text, TimeZone, WebhookUrl, wrong
from monitor.config.durations import Between
from monitor.config.secret import Secret
from monitor.config.section import Section, secrets_in
from monitor.model import Cause, Severity, Team

__all__ = [
    "ApiKeyAuth",
    "ChannelConfig",
    "CheckConfig",
    "ClientCredentialsAuth",
    "Config",
    "RouteConfig",
    "RuleOverride",
    "Schedule",
    "SyncLogConfig",
    "Target",
]

DEFAULT_EVERY = timedelta(minutes=5)
DEFAULT_DATABASE = "sqlite:///monitor.db"
GLOO_URL = "https://platform.ai.gloo.com"


class Schedule(Section):
    """When the daemon runs a target: at a fixed interval, or by cron in a time zone."""

    cron: Cron | None = None
    every: Annotated[timedelta, Between("1s", "7d")] | None = Field(
        default_factory=lambda given: None if given.get("cron") else DEFAULT_EVERY
    )
    """None exactly when there is a cron expression."""
    timezone: TimeZone = "UTC"

    @property
    def explicit(self) -> bool:
        """Somebody wrote it down, so that a missed run is worth an incident."""
        return bool(self.model_fields_set & {"every", "cron"})

    @field_validator("every")
    @classmethod
    def _one_of_two(cls, every: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if every is not None and info.data.get("cron") is not None:
            raise wrong("can't stand beside cron: keep one of them")
        return every


class ClientCredentialsAuth(Section):
    """OAuth2 client credentials."""

    client_id: Text = Field(description="give the id that belongs to the client secret")
    client_secret: Secret = Field(description="give it, or client_secret_file with the path of a file that holds it")


class ApiKeyAuth(Section):
    """One long-lived key."""

    api_key: HeaderSecret


def _one_form(raw: object) -> object:
    if isinstance(raw, ClientCredentialsAuth | ApiKeyAuth):
        return raw
    if not isinstance(raw, dict):
        raise wrong('must be a table, such as { client_id = "…", client_secret_file = "…" }')
    forms = [_is_key(raw), bool({"client_id", "client_secret", "client_secret_file"} & raw.keys())]
    if all(forms):
        raise wrong("holds both an API key and client credentials: keep one of them")
    if not any(forms):
        raise wrong(
            "is missing: give client_id and client_secret (or client_secret_file), or api_key (or api_key_file)"
        )
    return raw


def _is_key(raw: Mapping[str, object]) -> bool:
    return bool({"api_key", "api_key_file"} & raw.keys())


def _form(raw: object) -> str:
    return "auth:key" if isinstance(raw, ApiKeyAuth) or (isinstance(raw, dict) and _is_key(raw)) else "auth:client"


Auth = Annotated[
    Annotated[ClientCredentialsAuth, Tag("auth:client")] | Annotated[ApiKeyAuth, Tag("auth:key")],
    Discriminator(_form),
    BeforeValidator(_one_form),
]


class SyncLogConfig(Section):
    """Where the pipeline records what it uploaded. Names are checked against the catalogue when it is read."""

    url: DatabaseUrl = Field(description="give the connection URL of the database that holds your sync log")
    table: Text = "sync_log"
    id_column: Text = "item_id"
    submitted_at_column: Text | None = None
    group_column: Text | None = None
    timezone: TimeZone = "UTC"
    """What naive times of `submitted_at_column` are in."""


class CheckConfig(Section):
    """How a target is asked, and how patient the monitor is."""

    strategy: Literal["items", "auto"] = "auto"
    concurrency: int = Field(default=32, ge=1, le=1024)
    deadline: Annotated[timedelta, Between("1s", "1d")] = timedelta(minutes=4)
    attempt_timeout: Annotated[timedelta, Between("100ms", "10m")] = timedelta(seconds=30)
    max_attempts: int = Field(default=5, ge=1, le=10)
    http: Literal["httpx"] = "httpx"
    stuck_after: Annotated[timedelta, Between("1s", "30d")] = timedelta(minutes=30)
    missing_after: Annotated[timedelta, Between("0s", "30d")] = timedelta(minutes=15)


class Target(Section):
    """One integration that is watched."""

    name: Name = Field(description="give the target a name, such as gloo-prod")
    provider: Literal["gloo"] = Field(description='say which API it is: "gloo"')
    allow_http: bool = Field(default=False)
    base_url: str = GLOO_URL
    """Without a trailing slash."""
    publisher_id: Text = Field(description="give the id of the publisher whose items are watched")
    auth: Auth = Field(description='give the credentials, as in auth = { client_id = "…", client_secret_file = "…" }')
    statuses: Mapping[Literal["pending", "completed", "failed"], tuple[Text, ...]] = Field(default_factory=dict)
    """Additions to the provider's own table."""
    sync_log: SyncLogConfig = Field(
        description="say where your pipeline records its uploads, with url, table and id_column"
    )
    check: CheckConfig = CheckConfig()
    schedule: Schedule | None = None
    """None: the common one."""

    @field_validator("base_url")
    @classmethod
    def _reachable_safely(cls, url: str, info: ValidationInfo) -> str:
        try:
            return api_base(url, allow_http=info.data.get("allow_http", False))
        except ValueError as error:
            raise wrong(str(error)) from None

    @field_validator("statuses")
    @classmethod
    def _one_meaning_each(cls, statuses: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        spelled = [name.casefold() for names in statuses.values() for name in names]
        if len(spelled) != len(set(spelled)):
            raise wrong("gives one status twice: a status means one thing")
        return statuses


class RuleOverride(Section):
    """What differs from the built-in rule of a cause; None leaves the rule as it is."""

    cause: Cause = Field(description="say which cause the rule is for")
    runs: int | None = Field(default=None, ge=1, le=100)
    of: int | None = Field(default=None, ge=1, le=100)
    window: Annotated[timedelta, Between("1s", "30d")] | None = None
    span: Annotated[timedelta, Between("0s", "7d")] | None = None
    resolve_after: int | None = Field(default=None, ge=1, le=100)
    severity: Severity | None = None
    remind_every: Annotated[timedelta, Between("1m", "30d")] | None = None
    team: Team | None = None

    @field_validator("of")
    @classmethod
    def _reachable(cls, of: int | None, info: ValidationInfo) -> int | None:
        runs = info.data.get("runs")
        if of is not None and runs is not None and runs > of:
            raise wrong("is smaller than runs, so that the rule could never open an incident: raise it, or lower runs")
        return of


class ChannelConfig(Section):
    """Where messages go: the log, or a webhook."""

    name: Name = Field(description="give the channel a name, such as oncall")
    type: Literal["log", "webhook"] = Field(description='say what it is: "log" or "webhook"')
    url: WebhookUrl | None = Field(default=None, validate_default=True)
    """Set exactly for a webhook."""

    @field_validator("url")
    @classmethod
    def _as_the_type_wants(cls, url: Secret | None, info: ValidationInfo) -> Secret | None:
        if info.data.get("type") == "webhook" and url is None:
            raise wrong("is missing: give the webhook's url, or url_file with the path of a file that holds it")
        if info.data.get("type") == "log" and url is not None:
            raise wrong("has no meaning for the log: remove it")
        return url


class RouteConfig(Section):
    """Which incidents go to which channels; a route without `match` takes all."""

    match: Mapping[Literal["team", "target", "cause", "severity", "environment"], Patterns] = Field(
        default_factory=dict
    )
    """All keys must match, each by any of its glob patterns."""
    channels: tuple[str, ...] = Field(min_length=1, description="name at least one channel")
    continue_: bool = Field(default=False, alias="continue")
    """Later routes are tried too."""


class Config(Section):
    """Everything that can be set."""

    database: DatabaseUrl = Secret(DEFAULT_DATABASE)
    environment: Text = "production"
    schedule: Schedule = Schedule()
    targets: tuple[Target, ...] = Field(
        min_length=1,
        description="describe what to watch, in [[targets]] of monitor.toml; or set GLOO_PUBLISHER_ID, GLOO_CLIENT_ID, "
        "GLOO_CLIENT_SECRET and MONITOR_SYNC_LOG_URL",
    )
    rules: tuple[RuleOverride, ...] = ()
    channels: tuple[ChannelConfig, ...] = ()
    routes: tuple[RouteConfig, ...] = ()
    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _source: Path | None = PrivateAttr(default=None)

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> "Config":
        """Reads defaults < file < `.env` < environment < overrides, the later winning setting by setting.

        Args:
            path: the TOML file; None takes `MONITOR_CONFIG`, else `monitor.toml` in the working folder if there is one.
            environ: the environment; None is this process's own.
            overrides: settings from the command line, nested as in the file.

        Raises:
            ConfigError: with every problem found, each naming its key or variable and a remedy, none a secret.
        """
        from monitor.config.load import load

        config, warnings, source = load(path, environ, overrides or {})
        config._warnings, config._source = warnings, source  # noqa: SLF001  # an instance of this very class
        return config

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was ignored, one sentence each: unknown `MONITOR_…` variables."""
        return self._warnings

    @property
    def source(self) -> Path | None:
        """The file that was read, absolute; None when there was none."""
        return self._source

    def secrets(self) -> tuple[Secret, ...]:
        """Every secret in force, for the log to mask what they reveal."""
        return tuple(secrets_in(self))

    def describe(self) -> dict[str, object]:
        """The settings in force as JSON values, keyed as in the file, secrets masked."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
