"""What is watched, and how: the tables `[[targets]]`, `[targets.sync_log]` and `[targets.check]`."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from monitor.config.connection import AuthConfig, ClientCredentialsConfig, ProxyUrl, TlsConfig
from monitor.config.fields import (
    DatabaseUrl,
    Headers,
    Name,
    RequestRate,
    Share,
    Text,
    TimeZone,
    invalid_value,
    secret_validator,
    validate_provider_name,
)
from monitor.config.generic_provider import ItemConfig, ListConfig
from monitor.config.schedule import ScheduleConfig
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section
from monitor.config.urls import validate_base_url, validate_heartbeat_url
from monitor.model.durations import DurationRange
from monitor.providers.registry import BUILT_IN

GLOO_URL = "https://platform.ai.gloo.com"
_CREDENTIALS_MISSING = 'is missing: give the credentials, as in auth = { client_id = "…", client_secret_file = "…" }'
_ITEM_MISSING = 'is missing: say how one item is asked for, in [targets.item], as in path = "/documents/{item_id}"'
_COMPLETED_MISSING = (
    'is missing: say which statuses mean that an item is done, as in statuses = { completed = ["done"] }'
)


class SyncLogConfig(Section):
    """Where the pipeline records what it uploaded. It is only ever read; names are checked against its catalogue."""

    url: Annotated[DatabaseUrl, Remedy("give the connection URL of the database that holds your sync log")] = Field(
        description="The database that your pipeline writes to: sqlite:///path or postgresql://user:password@host/name.",
        examples=["sqlite:///pipeline.db"],
    )
    table: Text = Field(default="sync_log", description="The table or view that holds one row per uploaded item.")
    id_column: Text = Field(default="item_id", description="The column that holds the item's id, as the API knows it.")
    submitted_at_column: Text | None = Field(
        default=None,
        description="The column that says when an item was uploaded: ISO text, a native time, or Unix seconds or "
        "milliseconds. Without it an item's age counts from when the monitor first saw it.",
    )
    group_column: Text | None = Field(
        default=None, description="A column to break reports and incidents down by, such as a collection or a customer."
    )
    timezone: TimeZone = Field(default="UTC", description="What times without a zone of their own are in.")


class CheckConfig(Section):
    """How a target is asked, and how patient the monitor is."""

    strategy: Literal["items", "list", "auto"] = Field(
        default="auto",
        description="`items`: one request per item. `list`: one request for all, then item by item for those that are "
        "not completed. `auto`: the list when over 50 items are due and the provider has one.",
    )
    concurrency: int = Field(default=32, ge=1, le=1024, description="How many requests are under way at most.")
    rate: RequestRate | None = Field(
        default=None,
        description="How many requests are sent per second (`s`), minute (`m`) or hour (`h`) at most. Targets with one "
        "origin and credential share it. Left out: as many as the API takes.",
        examples=["50/s"],
    )
    rate_share: Share = Field(
        default=0.5, description="How much of the limit that the API advertises is used: your pipeline shares the key."
    )
    deadline: Annotated[timedelta, DurationRange("1s", "1d")] = Field(
        default=timedelta(minutes=4),
        description="How long one run may ask; what it did not get to is unknown. Best below the schedule's interval.",
    )
    attempt_timeout: Annotated[timedelta, DurationRange("100ms", "10m")] = Field(
        default=timedelta(seconds=30),
        description="How long one attempt may take, from connecting to the last byte; for a list, how long it may be "
        "silent.",
    )
    max_attempts: int = Field(
        default=5, ge=1, le=10, description="How often one request is tried when it fails in a way that may pass."
    )
    http: Literal["fast", "httpx"] = Field(
        default="fast",
        description="The HTTP client: `fast` is pyreqwest, `httpx` is httpx over the same connections. They keep the "
        "same contract; `fast` takes a fraction of the time.",
    )
    stuck_after: Annotated[timedelta, DurationRange("1s", "30d")] = Field(
        default=timedelta(minutes=30), description="How long an item may be pending before it counts as stuck."
    )
    missing_after: Annotated[timedelta, DurationRange("0s", "30d")] = Field(
        default=timedelta(minutes=15),
        description="How long after its upload the API may not know an item; uploads need a while to appear.",
    )
    list_max_mb: int = Field(
        default=1024,
        ge=1,
        le=65_536,
        description="The most megabytes (2²⁰ bytes) of one page of the list that are read; beyond it, `auto` asks item "
        "by item.",
    )


class TargetConfig(Section):
    """One integration that is watched."""

    name: Annotated[Name, Remedy("give the target a name, such as gloo-prod")] = Field(
        description="How reports, incidents and logs call it. History is kept under this name: keep it."
    )
    provider: Annotated[
        str, AfterValidator(validate_provider_name), Remedy('say which API it is: "gloo", or "generic" for any other')
    ] = Field(
        description="Which API it is: `gloo`, `generic` (described by `item` and `list` below), or the name of an "
        "installed provider."
    )
    allow_http: bool = Field(
        default=False,
        description="Lets `base_url` and `heartbeat` be plain http beyond this machine, where anybody can listen in.",
    )
    base_url: str = Field(
        default_factory=lambda given: GLOO_URL if given.get("provider") == "gloo" else "",
        validate_default=True,
        description=f"Where the API is: scheme, host, and a path if all requests share one. {GLOO_URL} for gloo unless "
        "said otherwise; required for others.",
    )
    publisher_id: Text | None = Field(
        default=None,
        validate_default=True,
        description="The publisher (tenant, project) that the items belong to. Required for gloo; elsewhere it fills "
        "`{publisher_id}` in paths.",
    )
    auth: AuthConfig | None = Field(
        default=None,
        validate_default=True,
        description="The credentials: client_id and client_secret, or api_key. Required for gloo.",
    )
    tls: TlsConfig | None = Field(
        default=None, description="Certificates beyond the system's: to trust, and to show. TLS is always verified."
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        description="The proxy for all requests to the API: `http://user:password@proxy:3128`, or with https, socks5 "
        "or socks5h; `direct` for none. Left out, the variables `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and "
        "`NO_PROXY` say, though never for an API on this machine.",
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Further headers of every request, for the generic provider. They are not secret: keys belong "
        "under `auth`.",
        examples=[{"OpenAI-Beta": "assistants=v2"}],
    )
    statuses: Mapping[Literal["pending", "completed", "failed"], tuple[Text, ...]] = Field(
        default_factory=dict,
        validate_default=True,
        description="Which of the API's words for a status mean `completed`, `pending` and `failed`. For gloo, "
        "additions to what is known; for generic, `completed` at least. Case does not count; an unknown status is "
        "pending.",
        examples=[{"completed": ["done"], "failed": ["error", "cancelled"]}],
    )
    item: ItemConfig | None = Field(
        default=None, validate_default=True, description="How one item is asked for: generic needs it."
    )
    list_: ListConfig | None = Field(
        default=None, alias="list", description="How all items are asked for at once, if the API can do that."
    )
    options: Mapping[str, object] = Field(
        default_factory=dict,
        description="What an installed provider wants to be told: its own documentation says. They are not secret.",
    )
    sync_log: SyncLogConfig | None = Field(
        default=None,
        description="Where your pipeline records its uploads. Left out: the built-in log, filled by `items import`.",
    )
    check: CheckConfig = Field(
        default=CheckConfig(),
        validate_default=True,
        description="How the target is asked, and how patient the monitor is.",
    )
    schedule: ScheduleConfig | None = Field(
        default=None,
        description="When the daemon runs this target; left out, the common schedule, of which nothing is added to it.",
    )
    heartbeat: Secret | None = Field(
        default=None,
        description="The URL of a dead man's switch (Healthchecks and its like) that is told of each run: `/start` is "
        "added when it begins, `/fail` when the monitor could not do its work. It is a secret.",
        examples=["https://hc-ping.com/your-check"],
    )

    @field_validator("base_url")
    @classmethod
    def _validate_base_url(cls, url: str, info: ValidationInfo) -> str:
        if not url and info.data.get("provider") != "gloo":
            raise invalid_value(
                'is missing: give the URL that all paths of the API begin with, such as "https://api.example"'
            )
        try:
            return validate_base_url(url, allow_http=info.data.get("allow_http", False))
        except ValueError as error:
            raise invalid_value(str(error)) from None

    @field_validator("heartbeat")
    @classmethod
    def _validate_heartbeat(cls, url: Secret | None, info: ValidationInfo) -> Secret | None:
        allow_http = info.data.get("allow_http", False)
        return url and secret_validator(partial(validate_heartbeat_url, allow_http=allow_http))(url)

    @field_validator("schedule")
    @classmethod
    def _validate_schedule(cls, schedule: ScheduleConfig | None) -> ScheduleConfig | None:
        if schedule is not None and not schedule.explicit:
            raise invalid_value("must say every or cron: a target's own schedule takes nothing from the common one")
        return schedule

    @field_validator("publisher_id")
    @classmethod
    def _validate_publisher_id(cls, publisher_id: str | None, info: ValidationInfo) -> str | None:
        if publisher_id is None and info.data.get("provider") == "gloo":
            raise invalid_value("is missing: give the id of the publisher whose items are watched")
        return publisher_id

    @field_validator("auth")
    @classmethod
    def _validate_auth(cls, auth: AuthConfig | None, info: ValidationInfo) -> AuthConfig | None:
        provider = info.data.get("provider")
        if auth is None and provider == "gloo":
            raise invalid_value(_CREDENTIALS_MISSING)
        if isinstance(auth, ClientCredentialsConfig) and auth.token_path is None and provider == "generic":
            raise invalid_value(
                'is missing: give the path of the token endpoint, such as "/oauth2/token"; or use an api_key',
                suffix=".token_path",
            )
        return auth

    @field_validator("headers", "item", "list_", "options")
    @classmethod
    def _validate_applies(cls, value: object, info: ValidationInfo) -> object:
        provider = info.data.get("provider")
        if not value or provider is None:
            return value
        if info.field_name == "options" and provider in BUILT_IN:
            raise invalid_value(f"has no meaning for {provider}, which is built in: remove it")
        if info.field_name != "options" and provider != "generic":
            raise invalid_value(f"has no meaning for {provider}, only for generic: remove it")
        return value

    @field_validator("statuses")
    @classmethod
    def _validate_statuses(
        cls, statuses: Mapping[str, tuple[str, ...]], info: ValidationInfo
    ) -> Mapping[str, tuple[str, ...]]:
        spelled = [name.casefold() for names in statuses.values() for name in names]
        if len(spelled) != len(set(spelled)):
            raise invalid_value("gives one status twice: a status means one thing")
        if info.data.get("provider") == "generic" and not statuses.get("completed"):
            raise invalid_value(_COMPLETED_MISSING, suffix=".completed")
        return statuses

    @field_validator("item", "list_")
    @classmethod
    def _validate_endpoint(
        cls, endpoint: ItemConfig | ListConfig | None, info: ValidationInfo
    ) -> ItemConfig | ListConfig | None:
        if endpoint is None:
            if info.field_name == "item" and info.data.get("provider") == "generic":
                raise invalid_value(_ITEM_MISSING)
        elif "{publisher_id}" in endpoint.path and info.data.get("publisher_id", "") is None:
            raise invalid_value("names {publisher_id}, and the target has none: give publisher_id", suffix=".path")
        return endpoint

    @field_validator("check")
    @classmethod
    def _validate_strategy(cls, check: CheckConfig, info: ValidationInfo) -> CheckConfig:
        without_list = info.data.get("provider") == "generic" and info.data.get("list_", "") is None
        if check.strategy == "list" and without_list:
            raise invalid_value(
                'can\'t be "list" without [targets.list], which says how all items are asked for: '
                'describe it, or use "items"',
                suffix=".strategy",
            )
        return check
