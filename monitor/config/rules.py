"""What differs from the built-in rules of incidents: the tables `[[rules]]`."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.fields import GlobPatterns, invalid_value
from monitor.config.section import Remedy, Section
from monitor.incidents.rulebook import GroupBy, Override
from monitor.model import ITEM_CAUSES, Cause, Severity, Team
from monitor.model.durations import DurationRange


class RuleConfig(Section):
    """What differs from the built-in rule of a cause; what is left out stays as it is."""

    cause: Annotated[Cause, Remedy("say which cause the rule is for")] = Field(
        description="The cause whose rule is changed."
    )
    target: GlobPatterns | None = Field(
        default=None,
        description="Glob patterns of the targets that it is for; left out, all. Of two tables that say the same for a "
        "target, the later one holds. For `channel_failing` it is for channels: `channel:NAME`.",
        examples=["gloo-*"],
    )
    runs: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="How many of the latest `of` runs must have seen the cause before an incident opens; given without "
        "`of`, that many in a row.",
    )
    of: int | None = Field(
        default=None, ge=1, le=100, description="Of how many of the latest runs `runs` must have seen it."
    )
    window: Annotated[timedelta, DurationRange("1s", "30d")] | None = Field(
        default=None, description="Only runs inside this window count, so that old evidence opens nothing."
    )
    hold_for: Annotated[timedelta, DurationRange("0s", "7d")] | None = Field(
        alias="span", default=None, description="The first and the last run that saw it lie at least this far apart."
    )
    resolve_after: int | None = Field(
        default=None, ge=1, le=100, description="The incident resolves after so many runs in a row without the cause."
    )
    severity: Severity | None = Field(
        default=None, description="How urgent it is: it goes into messages, and routes can match it."
    )
    repeat_interval: Annotated[timedelta, DurationRange("1m", "30d")] | None = Field(
        alias="remind_every", default=None, description="How often an open incident is told again."
    )
    team: Team | None = Field(default=None, description="Who is asked to look: routes can match it.")
    by: GroupBy | None = Field(
        default=None,
        description="`group`: an incident for each group of the items, where their sync log says groups; `target`, the "
        "built-in way: one for the whole target. Only for causes about items.",
    )

    @field_validator("of")
    @classmethod
    def _validate_of(cls, of: int | None, info: ValidationInfo) -> int | None:
        runs = info.data.get("runs")
        if of is not None and runs is not None and runs > of:
            raise invalid_value(
                "is smaller than runs, so that the rule could never open an incident: raise it, or lower runs"
            )
        return of

    @field_validator("by")
    @classmethod
    def _validate_by(cls, by: GroupBy | None, info: ValidationInfo) -> GroupBy | None:
        cause = info.data.get("cause")
        if by is GroupBy.GROUP and cause is not None and cause not in ITEM_CAUSES:
            allowed = ", ".join(each.value for each in ITEM_CAUSES)
            raise invalid_value(f'can\'t be "group" for {cause.value}: only items have groups ({allowed}); remove it')
        return by

    def to_override(self, position: int) -> Override:
        """What it changes, as the rules are laid over one another.

        Args:
            position: among the tables `[[rules]]`, from 0.
        """
        changes = {name: getattr(self, name) for name in type(self).model_fields if name not in {"cause", "target"}}
        return Override(
            cause=self.cause,
            changes={name: value for name, value in changes.items() if value is not None},
            targets=self.target or (),
            source=f"rules[{position}]",
        )
