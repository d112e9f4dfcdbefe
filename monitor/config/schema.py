"""`Config`, the root of the settings, and the table `[retention]`: types, ranges and defaults."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PrivateAttr

from monitor.config.channel_settings import AnyChannelConfig
from monitor.config.fields import DatabaseUrl, Text
from monitor.config.fleet import DaemonConfig, FleetConfig
from monitor.config.origin import Loc, Origin
from monitor.config.report import ReportConfig
from monitor.config.rules import RouteConfig, RuleConfig
from monitor.config.schedule import ScheduleConfig
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section, iter_secrets
from monitor.config.slos import SloConfig
from monitor.config.targets import TargetConfig
from monitor.config.web import WebConfig
from monitor.database.retention_policy import Ages
from monitor.model.durations import DurationRange


class RetentionConfig(Section):
    """How long history is kept. Without an age, it is kept forever."""

    # rules look back at most 30 days (`rules.window`), so nothing that a rule counts is pruned
    snapshots: Annotated[timedelta, DurationRange("31d", "36500d")] | None = Field(
        default=None,
        description="Runs that finished longer ago are deleted with their snapshots and evidence; the newest run of "
        "each target is kept. At least 31d, because rules look back 30d.",
        examples=["400d"],
    )
    item_events: Annotated[timedelta, DurationRange("1d", "36500d")] | None = Field(
        default=None,
        description="Older changes of single items are deleted: the history in `items show`.",
        examples=["90d"],
    )
    notifications: Annotated[timedelta, DurationRange("1d", "36500d")] | None = Field(
        default=None,
        description="Older delivered messages are deleted if their incident was resolved as long ago, and older "
        "reports. Pending messages and dead letters are kept.",
        examples=["30d"],
    )
    waits: Annotated[timedelta, DurationRange("31d", "36500d")] | None = Field(
        default=None,
        description="Older waits are deleted; the counters in /metrics keep them. At least 31d, because rules look "
        "back 30d.",
        examples=["400d"],
    )

    canaries: Annotated[timedelta, DurationRange("31d", "36500d")] | None = Field(
        default=None,
        description="Older canaries are deleted if their document is gone. If your pipeline records their documents, "
        "too, these count as items from then on. At least 31d, because rules look back 30d.",
        examples=["400d"],
    )

    def ages(self) -> Ages:
        """The ages, for pruning."""
        return Ages(
            snapshots=self.snapshots,
            item_events=self.item_events,
            notifications=self.notifications,
            waits=self.waits,
            canaries=self.canaries,
        )


DEFAULT_DATABASE = "sqlite:///monitor.db"
_GLOO_VARIABLES = "or set GLOO_PUBLISHER_ID, GLOO_CLIENT_ID and GLOO_CLIENT_SECRET"
_NO_TARGETS_REMEDY = (
    f"describe what to watch, in [[targets]] of monitor.toml (`ingestion-monitor init` writes one); {_GLOO_VARIABLES}"
)
NO_FILE_REMEDY = (
    "no monitor.toml is in this folder: go to the folder that has it, or name it with --config "
    f"(`ingestion-monitor init` writes a new one); {_GLOO_VARIABLES}"
)
"""What to do about missing targets where no file was found: most often, this is the wrong folder."""


class Config(Section):
    """All settings."""

    database: DatabaseUrl = Field(
        default=Secret(DEFAULT_DATABASE),
        description="The monitor's own database, which holds all state and history: sqlite:///path or "
        f"postgresql://user:password@host/name. Default: {DEFAULT_DATABASE}, in the folder of this file.",
        examples=[DEFAULT_DATABASE],
    )
    environment: Text = Field(
        default="production",
        description="The environment's name. History, messages and logs show it, and routes can match it.",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(), description="When the daemon runs targets without their own schedule."
    )
    targets: Annotated[tuple[TargetConfig, ...], Remedy(_NO_TARGETS_REMEDY)] = Field(
        min_length=1, description="The targets to monitor: one table per integration."
    )
    rules: tuple[RuleConfig, ...] = Field(
        default=(), description="Changes to the built-in incident rules: one table per change."
    )
    slos: tuple[SloConfig, ...] = Field(
        default=(), description="Service level objectives: how many uploads are promised to be indexed in time."
    )
    channels: tuple[AnyChannelConfig, ...] = Field(
        default=(), description="Where messages are sent: one table per channel. Without channels, they go to the log."
    )
    routes: tuple[RouteConfig, ...] = Field(
        default=(),
        description="Which incidents go to which channels: the first matching route decides. Without routes, every "
        "channel gets every incident. An incident that matches no route goes to the log.",
    )
    retention: RetentionConfig = Field(
        default=RetentionConfig(),
        description="How long history is kept: forever, unless an age is set. `db prune` deletes older history; the "
        "daemon does so once a day.",
    )
    group_wait: Annotated[timedelta, DurationRange("0s", "10m")] = Field(
        default=timedelta(seconds=30),
        description="How long the daemon waits before it sends a message, so that one cause on many targets becomes "
        "one message. `check` does not wait: it sends after its last target.",
    )
    report: ReportConfig | None = Field(
        default=None, description="The report that the daemon sends by itself. Without this table it sends none."
    )
    web: WebConfig = Field(default=WebConfig(), description="The daemon's page and health endpoints.")
    daemon: DaemonConfig = Field(default=DaemonConfig(), description="How the daemon works.")
    fleet: FleetConfig = Field(default=FleetConfig(), description="Workers that share the runs.")
    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _source: Path | None = PrivateAttr(default=None)
    _origins: Mapping[Loc, Origin] = PrivateAttr(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence per ignored `MONITOR_…` variable."""
        return self._warnings

    @property
    def source(self) -> Path | None:
        """The absolute path of the file that was read, if any."""
        return self._source

    @property
    def origins(self) -> Mapping[Loc, Origin]:
        """Where each setting came from; those not listed have their defaults."""
        return self._origins

    def loaded_from(self, source: Path | None, *, origins: Mapping[Loc, Origin], warnings: tuple[str, ...]) -> Self:
        """This configuration, with where it came from."""
        self._source, self._origins, self._warnings = source, origins, warnings
        return self

    def secrets(self) -> tuple[Secret, ...]:
        """Every secret, for the log to mask."""
        return tuple(iter_secrets(self))

    def schedule_for(self, target: TargetConfig) -> ScheduleConfig:
        """The target's own schedule, or the common one."""
        return target.schedule or self.schedule

    def describe(self) -> dict[str, object]:
        """The effective settings as JSON values, with the keys of the file and masked secrets."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
