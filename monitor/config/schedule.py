"""The table `[schedule]`: when runs are due, for all targets or for one."""

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.fields import CronExpression, TimeZone, invalid_value
from monitor.config.section import Section
from monitor.model.durations import DurationRange, format_duration
from monitor.model.schedule import DueTimes, cron_times

DEFAULT_EVERY = timedelta(minutes=5)
_MAX_NAME_LENGTH = 170  # characters; a run key, which contains the name, has at most 200
_SAMPLED_TIMES = 500  # of a cron expression, to find its shortest interval


def jitter_offset(jitter: timedelta, target: str) -> timedelta:
    """A target's delay: at least 0 and less than `jitter`, in milliseconds, the same on every machine."""
    digest, whole = hashlib.sha256(target.encode()).digest(), jitter // timedelta(milliseconds=1)
    return timedelta(milliseconds=int.from_bytes(digest[:8]) * whole >> 64)


class ScheduleConfig(Section):
    """When the daemon runs a target: at a fixed interval, or by a cron expression."""

    cron: CronExpression | None = Field(
        default=None,
        description="A cron expression of five fields (minute, hour, day, month, weekday), instead of `every`.",
        examples=["*/5 * * * *"],
    )
    every: Annotated[timedelta, DurationRange("1s", "7d")] | None = Field(
        default_factory=lambda given: None if given.get("cron") else DEFAULT_EVERY,
        description="The time between two runs. Runs are due at multiples of it since 1970, so that all daemons agree: "
        "5m is due at 12:00, 12:05 and so on, and once at the start. Default: 5m, unless `cron` is given. Runs of one "
        "target never overlap.",
    )
    timezone: TimeZone = Field(
        default="UTC", description="The IANA name of the time zone for `cron`.", examples=["Europe/Paris"]
    )
    jitter: Annotated[timedelta, DurationRange("0s", "1d")] = Field(
        default=timedelta(0),
        description="Spreads targets that are due at the same time: each starts later by up to this much, depending on "
        "its name. Must be less than the time between two runs.",
        examples=["30s"],
        validate_default=False,
    )

    @property
    def explicit(self) -> bool:
        """Whether the schedule is written in the configuration, so that a missed run is an incident."""
        return bool(self.model_fields_set & {"every", "cron"})

    @property
    def shortest_interval(self) -> timedelta | None:
        """The shortest time between two runs; None if a cron expression is due at most once."""
        return self.every if self.cron is None else _shortest_interval(self.cron)

    def due_times(self, target: str, *, daemon_managed: bool = False) -> DueTimes:
        """When a target's runs are due; `daemon_managed`: whether a daemon keeps the schedule."""
        return DueTimes(
            every=self.every,
            cron=self.cron,
            zone=ZoneInfo(self.timezone),
            offset=jitter_offset(self.jitter, target),
            name=self._name(),
            daemon_managed=daemon_managed,
        )

    def _name(self) -> str:
        if self.cron is None:
            return f"every {format_duration(self.every or DEFAULT_EVERY)}"
        words = f"{' '.join(self.cron.split())} {self.timezone}"
        digest = hashlib.sha256(words.encode()).hexdigest()[:32]
        return f"cron {words if len(words) <= _MAX_NAME_LENGTH - 5 else digest}"

    @field_validator("every")
    @classmethod
    def _validate_every(cls, every: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if every is not None and info.data.get("cron") is not None:
            raise invalid_value("can't be used together with cron: keep one of them")
        return every

    @field_validator("jitter")
    @classmethod
    def _validate_jitter(cls, jitter: timedelta, info: ValidationInfo) -> timedelta:
        cron, every = info.data.get("cron"), info.data.get("every")
        shortest = _shortest_interval(cron) if cron else every
        if shortest is not None and jitter >= shortest:
            raise invalid_value(f"must be shorter than the time between two runs, {format_duration(shortest)}")
        return jitter


def _shortest_interval(cron: str) -> timedelta | None:
    """The shortest time between two runs; None if at most one run is due."""
    times = islice(cron_times(cron, after=datetime(2024, 1, 1, tzinfo=UTC), zone=UTC), _SAMPLED_TIMES)
    return min((later - earlier for earlier, later in pairwise(times)), default=None)
