"""Everything that can be set: `Config`, whose tables are in modules of their own, its attributes named as the keys are.

It says what a value may be and what it is when left out; it reads neither files nor environment (`Config.load`
hands that to `load`).
"""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PrivateAttr

from monitor.config.fields import DatabaseUrl, Text, text_validator
from monitor.config.origin import Loc, Origin
from monitor.config.routes import AnyChannelConfig, RouteConfig
from monitor.config.rules import RuleConfig
from monitor.config.schedule import ScheduleConfig
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section, iter_secrets
from monitor.config.targets import TargetConfig
from monitor.config.urls import parse_listen_address
from monitor.database.retention_policy import Ages
from monitor.model.durations import DurationRange


class RetentionConfig(Section):
    """How long the past is kept. What is not set here is kept for good."""

    # no rule looks back further than 30 days (`rules.window`): nothing that a rule counts can be pruned
    snapshots: Annotated[timedelta, DurationRange("31d", "36500d")] | None = Field(
        default=None,
        description="Runs that finished longer ago are deleted, with their snapshots and evidence; the newest of each "
        "target stay. 31d at the least: rules look back as far.",
        examples=["400d"],
    )
    item_events: Annotated[timedelta, DurationRange("1d", "36500d")] | None = Field(
        default=None,
        description="Changes of single items that are older are deleted: what `items show` tells of an item's life.",
        examples=["90d"],
    )
    notifications: Annotated[timedelta, DurationRange("1d", "36500d")] | None = Field(
        default=None,
        description="Delivered messages that are older are deleted, once their incident was resolved as long ago. "
        "What is due or was given up stays.",
        examples=["30d"],
    )

    def ages(self) -> Ages:
        """The ages alone."""
        return Ages(snapshots=self.snapshots, item_events=self.item_events, notifications=self.notifications)


OFF = "off"


def _validate_listen(value: str) -> str:
    if value != OFF:
        parse_listen_address(value)
    return value


class WebConfig(Section):
    """Where the daemon answers about itself: /healthz, /readyz and /metrics."""

    listen: Annotated[str, Field(max_length=300), AfterValidator(text_validator(_validate_listen))] = Field(
        default="127.0.0.1:8990",
        description="Host and port that the daemon's health endpoints listen on; only this machine reaches them unless "
        'said otherwise, and containers want "0.0.0.0:8990". Port 0 takes a free one, which the log names; "off" for '
        "no endpoints. They tell no secret and change nothing, but ask nobody for a password.",
        examples=["0.0.0.0:8990"],
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port to listen on; None for no endpoints."""
        return None if self.listen == OFF else parse_listen_address(self.listen)


DEFAULT_DATABASE = "sqlite:///monitor.db"
_NO_TARGETS_REMEDY = (
    "describe what to watch, in [[targets]] of monitor.toml (`ingestion-monitor init` writes one); "
    "or set GLOO_PUBLISHER_ID, GLOO_CLIENT_ID and GLOO_CLIENT_SECRET"
)


class Config(Section):
    """Everything that can be set."""

    database: DatabaseUrl = Field(
        default=Secret(DEFAULT_DATABASE),
        description="The monitor's own database, where all its state and history are: sqlite:///path or "
        f"postgresql://user:password@host/name. {DEFAULT_DATABASE} beside this file unless said otherwise.",
        examples=[DEFAULT_DATABASE],
    )
    environment: Text = Field(
        default="production", description="Where this runs: it goes into history, messages and logs; routes match it."
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(), description="When the daemon runs targets that have no schedule of their own."
    )
    targets: Annotated[tuple[TargetConfig, ...], Remedy(_NO_TARGETS_REMEDY)] = Field(
        min_length=1, description="What is watched: one table per integration."
    )
    rules: tuple[RuleConfig, ...] = Field(
        default=(), description="What differs from the built-in rules: one table per cause."
    )
    channels: tuple[AnyChannelConfig, ...] = Field(
        default=(), description="Where messages go: one table per place. With none, they go to the log."
    )
    routes: tuple[RouteConfig, ...] = Field(
        default=(),
        description="Which incidents go to which channels: the first route that matches. Without any, every channel "
        "hears of everything; what no route matches goes to the log.",
    )
    retention: RetentionConfig = Field(
        default=RetentionConfig(),
        description="How long the past is kept: for good, unless an age is set. `db prune` and the daemon, once a day, "
        "delete what is older.",
    )
    group_wait: Annotated[timedelta, DurationRange("0s", "10m")] = Field(
        default=timedelta(seconds=30),
        description="How long the daemon holds a message back for others like it: one cause on many targets is one "
        "message. `check` waits for nothing: it sends after its last target.",
    )
    web: WebConfig = Field(default=WebConfig(), description="Where the daemon answers about itself.")
    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _source: Path | None = PrivateAttr(default=None)
    _origins: Mapping[Loc, Origin] = PrivateAttr(default_factory=dict)

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

        loaded = load(path, environ, overrides or {})
        config = loaded.config
        config._warnings, config._source, config._origins = loaded.warnings, loaded.source, loaded.origins  # noqa: SLF001  # an instance of this very class
        return config

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was ignored, one sentence each: unknown `MONITOR_…` variables."""
        return self._warnings

    @property
    def source(self) -> Path | None:
        """The file that was read, absolute; None when there was none."""
        return self._source

    @property
    def origins(self) -> Mapping[Loc, Origin]:
        """Where each setting came from that somebody wrote, by its place; the others have their defaults."""
        return self._origins

    def secrets(self) -> tuple[Secret, ...]:
        """Every secret in force, for the log to mask what they reveal."""
        return tuple(iter_secrets(self))

    def schedule_for(self, target: TargetConfig) -> ScheduleConfig:
        """When the daemon runs a target: its own schedule, or the common one."""
        return target.schedule or self.schedule

    def describe(self) -> dict[str, object]:
        """The settings in force as JSON values, keyed as in the file, secrets masked."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
