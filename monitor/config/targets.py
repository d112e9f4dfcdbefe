"""The tables `[[targets]]` and `[targets.check]`."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from monitor.config.canary import CanaryConfig, FindConfig, StepConfig
from monitor.config.connection import ApiKeyConfig, AuthConfig, ClientCredentialsConfig, ProxyUrl, TlsConfig
from monitor.config.fields import (
    Name,
    RequestRate,
    Share,
    StatusWord,
    Text,
    invalid_value,
    secret_validator,
    validate_provider_name,
)
from monitor.config.generic_provider import ErrorConfig, ItemConfig, ListConfig
from monitor.config.request_fields import Headers, ParamName, SecretHeaders
from monitor.config.schedule import ScheduleConfig
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section
from monitor.config.sync_log import SyncLogConfig
from monitor.config.urls import validate_base_url, validate_heartbeat_url
from monitor.model.durations import DurationRange
from monitor.providers.registry import GENERIC, built_in_names, is_described

GLOO_URL = "https://platform.ai.gloo.com"
_REQUIRED = {
    ("gloo", "publisher_id"): "is missing: give the id of the publisher that owns the items",
    ("gloo", "auth"): 'is missing: give the credentials, as in auth = { client_id = "…", client_secret_file = "…" }',
}
_COMPLETED_MISSING = 'is missing: say which statuses mean completed, as in statuses = { completed = ["done"] }'


class CheckConfig(Section):
    """How a target is checked: strategy, limits and timeouts."""

    strategy: Literal["items", "list", "auto"] = Field(
        default="auto",
        description="`items`: one request per item. `list`: one request for all items, then one per item that is not "
        "completed. `auto`: `list` if more than 50 items are due and the provider has a list, else `items`.",
    )
    concurrency: int = Field(default=32, ge=1, le=1024, description="The maximum number of requests at a time.")
    rate: RequestRate | None = Field(
        default=None,
        description="The maximum number of requests per second (`s`), minute (`m`) or hour (`h`). Targets with the "
        "same origin and credential share it. Default: as many as the API accepts.",
        examples=["50/s"],
    )
    rate_share: Share = Field(
        default=0.5,
        description="The share of the API's advertised limit to use. The rest is for your pipeline, which uses the "
        "same key.",
    )
    deadline: Annotated[timedelta, DurationRange("1s", "1d")] = Field(
        default=timedelta(minutes=4),
        description="How long one run may send requests. Items that it does not reach are unknown. Keep it below the "
        "schedule's interval.",
    )
    attempt_timeout: Annotated[timedelta, DurationRange("100ms", "10m")] = Field(
        default=timedelta(seconds=30),
        description="The timeout of one attempt, from connecting to the last byte; for a list, the longest time "
        "without data.",
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=10,
        description="How often a request is tried when a failure may be temporary. The run's retry budget (10% of its "
        "requests, at least 3) binds first; `check` says when it did.",
    )
    recheck_completed: Literal["auto", "never"] = Field(
        default="auto",
        description="Whether completed items are asked about again, a few in each run. `never`: the API forgets what "
        "is done.",
    )
    item_max_mb: int = Field(
        default=1, ge=1, le=1024, description="The maximum size of the response about an item, in MiB."
    )
    http: Literal["fast", "httpx"] = Field(
        default="fast",
        description="The HTTP client: `fast` (our own; pyreqwest through a proxy) or `httpx`. They behave the same; "
        "`fast` uses far less CPU time.",
    )
    stuck_after: Annotated[timedelta, DurationRange("1s", "30d")] = Field(
        default=timedelta(minutes=30), description="How long an item may be pending before it counts as stuck."
    )
    missing_after: Annotated[timedelta, DurationRange("0s", "30d")] = Field(
        default=timedelta(minutes=15),
        description="How long after its upload an item may be unknown to the API before it counts as missing.",
    )
    slow_after: Annotated[timedelta, DurationRange("1s", "30d")] | None = Field(
        default=None,
        description="An incident `indexing_slow` opens when more than 5% of the uploads of the last hour, and at least "
        "two, take longer than this to be indexed. Longer than the time between two runs. Default: never.",
        examples=["15m"],
    )
    list_max_mb: int = Field(
        default=1024,
        ge=1,
        le=65_536,
        description="The maximum size of one page of the list, in MiB. If a page is larger, `auto` checks item by "
        "item.",
    )


class TargetConfig(Section):
    """One monitored integration."""

    name: Annotated[Name, Remedy("give the target a name, such as gloo-prod")] = Field(
        description="The target's name in reports, incidents and logs. History is stored under it: do not change it."
    )
    status_name: Text | None = Field(
        default=None,
        description="The name of this target on the public page `/status`, for the users of your product. Targets "
        "without one are not listed; if none has one, the page shows one state for all.",
        examples=["Document search"],
    )
    provider: Annotated[
        str, AfterValidator(validate_provider_name), Remedy('say which API it is: "gloo", or "generic" for any other')
    ] = Field(
        description="The API: one that is built in (`ingestion-monitor providers list`), `generic` (described by "
        "`item` and `list` below), or an installed provider. Each key of a description can be overridden here."
    )
    allow_http: bool = Field(
        default=False,
        description="Allows plain http to other machines in `base_url` and `heartbeat`, where others can read it.",
    )
    base_url: str = Field(
        default_factory=lambda given: GLOO_URL if given.get("provider") == "gloo" else "",
        validate_default=True,
        description="The API's URL: scheme, host, and the path that all requests share. Default for gloo: "
        f"{GLOO_URL}. Required unless the description has one.",
    )
    publisher_id: Text | None = Field(
        default=None,
        validate_default=True,
        description="The publisher (tenant, project) that owns the items. Required for gloo; elsewhere it replaces "
        "`{publisher_id}` in paths.",
    )
    params: Mapping[ParamName, Text] = Field(
        default_factory=dict,
        description="The values of the other placeholders in paths and bodies, by name.",
        examples=[{"vector_store_id": "vs_abc123"}],
    )
    auth: AuthConfig | None = Field(
        default=None,
        validate_default=True,
        description="The credentials: client_id and client_secret, api_key, or user and password. Required for gloo.",
    )
    tls: TlsConfig | None = Field(
        default=None, description="CA certificates to trust, and a client certificate. TLS is always verified."
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        description="The proxy for requests to the API: `http://user:password@proxy:3128`, also with https, socks5 or "
        "socks5h; `direct` for none. By default the variables `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` "
        "apply, but not for an API on this machine.",
    )
    headers: Headers = Field(
        default_factory=dict,
        validate_default=True,
        description="Additional headers of every request, for a described API. They are not secret: put keys under "
        "`auth`, others under `secret_headers`.",
        examples=[{"OpenAI-Beta": "assistants=v2"}],
    )
    secret_headers: SecretHeaders = Field(
        default_factory=dict,
        description="Further headers of every request, token requests too, whose values are secret: for a gateway in "
        "front of the API. `X-Key_file` in place of `X-Key` is the path of a file with the value, read at each use.",
        examples=[{"CF-Access-Client-Id": "${CF_ID}", "CF-Access-Client-Secret_file": "/run/secrets/cf"}],
    )
    uuid_ids: bool = Field(
        default=False,
        description="Whether ids are UUIDs, for a described API: then a sync log can spell them in other forms.",
    )
    statuses: Mapping[Literal["pending", "completed", "failed", "not_found"], tuple[StatusWord, ...]] = Field(
        default_factory=dict,
        validate_default=True,
        description="The API's statuses that mean `completed`, `pending`, `failed` and `not_found`. For gloo, they add "
        "to the known ones; for generic, `completed` is required. Case is ignored. Numbers and booleans are written "
        'as they are, `"null"` means a status that is null. Any other status is pending.',
        examples=[{"completed": ["done"], "failed": ["error", "cancelled"]}],
    )
    item: ItemConfig | None = Field(
        default=None, description="How to request one item. Without it, `list` alone answers."
    )
    list_: ListConfig | None = Field(
        default=None, alias="list", description="How to request all items at once, if the API has a list."
    )
    errors: tuple[ErrorConfig, ...] = Field(
        default=(),
        description="What values in the body of an answer mean, for an API that does not say it by the status.",
    )
    upload: tuple[StepConfig, ...] = Field(
        default=(), description="How a canary uploads its document: one request, or several in their order."
    )
    retrieve: tuple[StepConfig, ...] = Field(
        default=(), description="How a canary retrieves a piece of its document, by a search or a question."
    )
    delete: tuple[StepConfig, ...] = Field(default=(), description="How a canary deletes its document.")
    find: FindConfig | None = Field(
        default=None, description="How a canary finds its document by name, if the answer to an upload never came."
    )
    options: Mapping[str, object] = Field(
        default_factory=dict,
        description="The settings of an installed provider, as its documentation says. They are not secret.",
    )
    sync_log: SyncLogConfig | None = Field(
        default=None,
        description="Where your pipeline records its uploads. Default: the built-in log, filled by `items import`.",
    )
    check: CheckConfig = Field(
        default=CheckConfig(),
        validate_default=True,
        description="How the target is checked: strategy, limits and timeouts.",
    )
    canary: CanaryConfig | None = Field(
        default=None,
        description="A canary: a document of the monitor's own that shows whether uploading, indexing and retrieving "
        "work.",
    )
    schedule: ScheduleConfig | None = Field(
        default=None, description="When the daemon runs this target. It replaces the common schedule as a whole."
    )
    heartbeat: Secret | None = Field(
        default=None,
        description="The URL of a dead man's switch (such as Healthchecks) that is pinged for each run, with `/start` "
        "at the beginning and `/fail` if the monitor could not do its work. It is a secret.",
        examples=["https://hc-ping.com/your-check"],
    )

    @field_validator("base_url")
    @classmethod
    def _validate_base_url(cls, url: str, info: ValidationInfo) -> str:
        if not url and info.data.get("provider") != "gloo":
            raise invalid_value(
                'is missing: give the URL that all paths of the API start with, such as "https://api.example"'
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
            raise invalid_value("must set every or cron: it replaces the common schedule as a whole")
        return schedule

    @field_validator("publisher_id", "auth")
    @classmethod
    def _validate_given(cls, value: object, info: ValidationInfo) -> object:
        missing = _REQUIRED.get((info.data.get("provider", ""), str(info.field_name)))
        if value is None and missing:
            raise invalid_value(missing)
        return value

    @field_validator("auth")
    @classmethod
    def _validate_auth(cls, auth: AuthConfig | None, info: ValidationInfo) -> AuthConfig | None:
        described = info.data.get("provider") == GENERIC
        if isinstance(auth, ClientCredentialsConfig) and auth.token_path is None and described:
            raise invalid_value(
                'is missing: give the path of the token endpoint, such as "/oauth2/token"; or use an api_key',
                suffix=".token_path",
            )
        return auth

    @field_validator(
        "headers", "uuid_ids", "item", "list_", "errors", "upload", "retrieve", "delete", "find", "options"
    )
    @classmethod
    def _validate_applies(cls, value: object, info: ValidationInfo) -> object:
        provider = info.data.get("provider")
        if not value or provider is None:
            return value
        if info.field_name == "options" and provider in built_in_names():
            raise invalid_value(f"does not apply to {provider}, which is built in: remove it")
        if info.field_name != "options" and not is_described(provider):
            raise invalid_value(f"does not apply to {provider}, only to an API that is described: remove it")
        return value

    @field_validator("headers", "secret_headers")
    @classmethod
    def _validate_headers_differ(cls, headers: Mapping[str, object], info: ValidationInfo) -> Mapping[str, object]:
        """A header can't be set twice: which of them counted would be a matter of chance."""
        auth, plain = info.data.get("auth"), info.data.get("headers") or {}
        if auth is not None:
            header = auth.header.lower() if isinstance(auth, ApiKeyConfig) else "authorization"
            if header in {name.lower() for name in headers}:
                raise invalid_value(f"sets {header} again, in which auth sends its key: keep one of them")
        if info.field_name == "secret_headers":
            twice = {name.lower() for name in plain} & {name.lower() for name in headers}
            if twice:
                raise invalid_value(f"sets {min(twice)} again, which headers sets: keep one of them")
        return headers

    @field_validator("statuses")
    @classmethod
    def _validate_statuses(
        cls, statuses: Mapping[str, tuple[str, ...]], info: ValidationInfo
    ) -> Mapping[str, tuple[str, ...]]:
        spelled = [name.casefold() for names in statuses.values() for name in names]
        if len(spelled) != len(set(spelled)):
            raise invalid_value("contains one status twice: keep it in one list")
        if not statuses.get("completed") and (info.data.get("provider") == GENERIC or "completed" in statuses):
            raise invalid_value(_COMPLETED_MISSING, suffix=".completed")
        return statuses

    @field_validator("check")
    @classmethod
    def _validate_strategy(cls, check: CheckConfig, info: ValidationInfo) -> CheckConfig:
        without_list = is_described(info.data.get("provider", "")) and info.data.get("list_", "") is None
        if check.strategy == "list" and without_list:
            raise invalid_value(
                'can\'t be "list" without [targets.list], which says how to request all items: add it, or use "items"',
                suffix=".strategy",
            )
        if check.strategy == "items" and info.data.get("list_") is not None and info.data.get("item", "") is None:
            raise invalid_value(
                'can\'t be "items" without [targets.item], which says how to request one item: add it, or use "list"',
                suffix=".strategy",
            )
        return check
