"""The table `[report]`: the report that the daemon sends by itself, when and where."""

from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.fields import CronExpression, TimeZone, invalid_value
from monitor.config.section import Remedy, Section
from monitor.model.durations import DurationRange, format_duration
from monitor.model.schedule import DueTimes

_DEFAULT_SINCE = timedelta(days=7)


class ReportConfig(Section):
    """A report on all targets, sent by the daemon. `report --send` sends one at once, or from cron."""

    cron: CronExpression | None = Field(
        default=None,
        description="A cron expression of five fields (minute, hour, day, month, weekday), instead of `every`.",
        examples=["0 8 * * 1"],
    )
    every: Annotated[timedelta, DurationRange("1h", "35d")] | None = Field(
        default=None,
        description="The time between two reports. They are due at multiples of it since 1970 in UTC, so that all "
        "daemons agree: 1d at midnight, 1w on Thursdays. For another day or hour use `cron`. Without either, the "
        "daemon sends none.",
        examples=["1w"],
        validate_default=True,
    )
    timezone: TimeZone = Field(
        default="UTC", description="The IANA name of the time zone for `cron`.", examples=["Europe/Paris"]
    )
    channels: Annotated[tuple[str, ...], Remedy("name the channels that get it")] = Field(
        min_length=1,
        description="The channels that get it, of any type but `pagerduty` and `alertmanager`, which raise alerts.",
        examples=[["team"]],
    )
    since: Annotated[timedelta, DurationRange("1h", "3653d")] | None = Field(
        default=None,
        description="How far back its trend goes. Default: `every`, or 7d with `cron`. What changed is always counted "
        "since the last report.",
        examples=["30d"],
    )

    @field_validator("every")
    @classmethod
    def _validate_every(cls, every: timedelta | None, info: ValidationInfo) -> timedelta | None:
        cron = info.data.get("cron")
        if every is not None and cron is not None:
            raise invalid_value("can't be used together with cron: keep one of them")
        if every is None and "cron" in info.data and cron is None:
            raise invalid_value('is missing: say when the report is sent, as in every = "1w", or cron = "0 8 * * 1"')
        return every

    @property
    def period(self) -> timedelta:
        """How far back the trend goes."""
        return self.since or self.every or _DEFAULT_SINCE

    def due_times(self) -> DueTimes:
        """When the report is due."""
        name = f"every {format_duration(self.every)}" if self.every else f"cron {self.cron} {self.timezone}"
        return DueTimes(every=self.every, cron=self.cron, zone=ZoneInfo(self.timezone), name=name, daemon_managed=True)
