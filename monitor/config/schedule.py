"""When runs are due, as configured: the table `[schedule]`, common to all targets or one target's own."""

from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.checks import Cron, TimeZone, wrong
from monitor.config.durations import Between
from monitor.config.section import Section
from monitor.health.punctuality import DueTimes

__all__ = ["Schedule"]

DEFAULT_EVERY = timedelta(minutes=5)


class Schedule(Section):
    """When the daemon runs a target: at a fixed interval, or by cron in a time zone."""

    cron: Cron | None = Field(
        default=None,
        description="Five fields (minute, hour, day, month, weekday) that say when a run is due, instead of `every`.",
        examples=["*/5 * * * *"],
    )
    every: Annotated[timedelta, Between("1s", "7d")] | None = Field(
        default_factory=lambda given: None if given.get("cron") else DEFAULT_EVERY,
        description="Time from the start of one run to the start of the next; 5m when neither this nor `cron` is "
        "given. Runs of one target never overlap.",
    )
    timezone: TimeZone = Field(
        default="UTC", description="The time zone that `cron` is read in, by its IANA name.", examples=["Europe/Paris"]
    )

    @property
    def explicit(self) -> bool:
        """Somebody wrote it down, so that a missed run is worth an incident."""
        return bool(self.model_fields_set & {"every", "cron"})

    def due_times(self) -> DueTimes:
        """When its runs are due."""
        return DueTimes(every=self.every, cron=self.cron, zone=ZoneInfo(self.timezone))

    @field_validator("every")
    @classmethod
    def _one_of_two(cls, every: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if every is not None and info.data.get("cron") is not None:
            raise wrong("can't stand beside cron: keep one of them")
        return every
