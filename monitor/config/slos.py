"""The table `[[slos]]`: which share of a target's uploads is promised to be indexed in time."""

from collections.abc import Iterable
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from monitor.config.fields import GlobPatterns, Text, invalid_value
from monitor.config.section import Remedy, Section
from monitor.incidents.slo import Objective
from monitor.model.durations import DurationRange, format_duration


def _validate_objective(value: float) -> float:
    if 1 < value < 100:
        raise invalid_value(f"must be below 1: write {value:g}% as {value / 100:g}")
    if value == 1:
        raise invalid_value("must be below 1, such as 0.99: with 1 a single late upload would break it for good")
    if not 0 < value < 1:
        raise invalid_value("must be above 0 and below 1, such as 0.95")
    return value


ObjectiveShare = Annotated[
    float, AfterValidator(_validate_objective), Field(json_schema_extra={"exclusiveMinimum": 0, "exclusiveMaximum": 1})
]


class SloConfig(Section):
    """A service level objective: the share of uploads that is indexed in time. See docs/slo.md."""

    name: Annotated[Text, Remedy('say what is promised, such as "searchable in 15 minutes"')] = Field(
        description="Its name: unique, and shown in messages, metrics and `slo`.", examples=["searchable in 15 minutes"]
    )
    target: GlobPatterns | None = Field(
        default=None,
        description="Glob patterns of its targets; each has an error budget of its own. Default: all targets.",
        examples=["gloo-*"],
    )
    group: Text | None = Field(
        default=None,
        description="Only uploads of this group of items count, where the sync log has groups. Default: all uploads.",
    )
    objective: Annotated[ObjectiveShare, Remedy("give the share of uploads, such as 0.95")] = Field(
        description="The share of uploads that must be indexed in time. The rest is the error budget.", examples=[0.95]
    )
    within: Annotated[timedelta, DurationRange("1s", "30d"), Remedy('give a time, such as "15m"')] = Field(
        description="The time in which an upload must be completed: from its `submitted_at`, or else from when the "
        "monitor first saw it, to the first time that the monitor found it completed. At least the time between two "
        "runs, better three times that.",
        examples=["15m"],
    )
    window: Annotated[timedelta, DurationRange("3d", "92d")] = Field(
        default=timedelta(days=28),
        description="The rolling time in which the objective must hold. 28d has the same weekdays in it always.",
    )

    @field_validator("window")
    @classmethod
    def _validate_window(cls, window: timedelta, info: ValidationInfo) -> timedelta:
        within = info.data.get("within")
        if within is not None and within >= window:
            raise invalid_value(f"must be longer than within, {format_duration(within)}")
        return window

    def applies_to(self, target: str) -> bool:
        """Whether it is about this target."""
        return self.target is None or any(fnmatchcase(target, pattern) for pattern in self.target)

    def to_objective(self) -> Objective:
        """The objective, for the rules."""
        return Objective(
            name=self.name, objective=self.objective, within=self.within, window=self.window, group=self.group
        )


def objectives_of(slos: Iterable[SloConfig], target: str) -> tuple[Objective, ...]:
    """The objectives of a target, in the order of the file."""
    return tuple(slo.to_objective() for slo in slos if slo.applies_to(target))
