"""The tables `[[rules]]`, which change built-in incident rules, and `[[routes]]`, which send incidents to channels."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.fields import GlobPatterns, did_you_mean, format_choices, invalid_value, quote_name
from monitor.config.section import Remedy, Section
from monitor.incidents.rulebook import EffectiveRule, GroupBy, Override, Rule, effective_rules
from monitor.model import ITEM_CAUSES, Cause, Severity, Team
from monitor.model.durations import DurationRange
from monitor.model.incidents import RENAMED
from monitor.notifications.routing import Route


class RuleConfig(Section):
    """Changes to the built-in rule of a cause. A key that is left out keeps its built-in value."""

    cause: Annotated[Cause, Remedy("say which cause the rule is for")] = Field(
        description="The cause whose rule is changed."
    )
    target: GlobPatterns | None = Field(
        default=None,
        description="Glob patterns of the targets that the rule applies to. Default: all targets. If two tables set "
        "the same key for a target, the later table wins. For `channel_failing`, the pattern matches `channel:NAME`.",
        examples=["gloo-*"],
    )
    runs: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="An incident opens when this many of the latest `of` runs saw the cause. Without `of`: this many "
        "runs in a row.",
    )
    of: int | None = Field(default=None, ge=1, le=100, description="How many of the latest runs are counted.")
    window: Annotated[timedelta, DurationRange("1s", "30d")] | None = Field(
        default=None, description="Only runs within this time are counted, so that old evidence opens no incident."
    )
    hold_for: Annotated[timedelta, DurationRange("0s", "7d")] | None = Field(
        alias="for",
        default=None,
        description="The first and the last run that saw the cause are at least this far apart.",
    )
    resolve_after: int | None = Field(
        default=None, ge=1, le=100, description="The incident resolves after this many runs in a row without the cause."
    )
    severity: Severity | None = Field(
        default=None, description="How urgent the incident is. Messages show it, and routes can match it."
    )
    repeat_interval: Annotated[timedelta, DurationRange("1m", "30d")] | None = Field(
        default=None, description="How often a reminder is sent while the incident is open."
    )
    team: Team | None = Field(default=None, description="The team that has to act. Routes can match it.")
    by: GroupBy | None = Field(
        default=None,
        description="`target` (built in): one incident for the whole target. `group`: one incident for each group of "
        "items, where the sync log has groups. Only for causes about items.",
    )

    @field_validator("runs", "of", "window", "hold_for", "resolve_after")
    @classmethod
    def _validate_counted(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("cause") is Cause.SLO_BURN:
            raise invalid_value("does not apply to slo_burn, which opens and resolves by burn rate: remove it")
        return value

    @field_validator("of")
    @classmethod
    def _validate_of(cls, of: int | None, info: ValidationInfo) -> int | None:
        runs = info.data.get("runs")
        if of is not None and runs is not None and runs > of:
            raise invalid_value(
                "is smaller than runs, so the rule could never open an incident: raise of, or lower runs"
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
        """The changes that this table makes; `position` is its row in `[[rules]]`, from 0."""
        changes = self.model_dump(exclude={"cause", "target"}, exclude_none=True)
        return Override(cause=self.cause, changes=changes, targets=self.target or (), source=f"rules[{position}]")


_KNOWN_VALUES: Mapping[str, type[StrEnum]] = {"team": Team, "cause": Cause, "severity": Severity}


def _no_such_value(name: str, pattern: str, values: Iterable[str]) -> str:
    if name == "cause" and pattern in RENAMED:
        return f"names {pattern}, which is now called {RENAMED[pattern]}: rename it"
    hint = did_you_mean(pattern.strip("*?"), values) or f": use {format_choices(values)}"
    return f"is {quote_name(pattern)}, which matches no {name}{hint}"


class RouteConfig(Section):
    """Sends incidents to channels. A route without `match` matches every incident."""

    match: Mapping[Literal["team", "cause", "target", "group", "severity", "environment"], GlobPatterns] = Field(
        default_factory=dict,
        description="Attributes that an incident must have: `team`, `cause`, `target`, `group`, `severity` and "
        "`environment`, each with one or more glob patterns. All given attributes must match, each by any of its "
        "patterns. Only incidents about items have groups; no `group` pattern matches any other incident.",
        examples=[{"team": ["credentials", "account"], "target": "gloo-*"}],
    )
    channels: Annotated[tuple[str, ...], Remedy("name at least one channel")] = Field(
        min_length=1, description="The names of the channels to notify. `log` always exists."
    )
    continue_: bool = Field(
        default=False,
        alias="continue",
        description="Whether later routes are tried too. By default the first route that matches is the last one.",
    )

    @field_validator("match")
    @classmethod
    def _validate_match(cls, match: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for name, values in _KNOWN_VALUES.items():
            for pattern in match.get(name, ()):
                if not any(fnmatchcase(value, pattern) for value in values):
                    raise invalid_value(_no_such_value(name, pattern, values), suffix=f".{name}")
        return match

    def to_route(self) -> Route:
        """The route as incidents are sent by it."""
        match = {str(name): patterns for name, patterns in self.match.items()}
        return Route(match=match, channels=self.channels, continue_=self.continue_)


def rules_for_target(overrides: Sequence[RuleConfig], *, target: str) -> Mapping[Cause, Rule]:
    """The built-in rules with `[[rules]]` applied in order; for `channel:NAME` only that of `channel_failing`."""
    return {cause: found.rule for cause, found in rules_with_sources(overrides, target=target).items()}


def rules_with_sources(overrides: Sequence[RuleConfig], *, target: str) -> Mapping[Cause, EffectiveRule]:
    """The same, with the source of each value."""
    return effective_rules(build_overrides(overrides), target)


def build_overrides(rules: Sequence[RuleConfig]) -> tuple[Override, ...]:
    """The tables `[[rules]]`, in order."""
    return tuple(each.to_override(position) for position, each in enumerate(rules))


def build_routes(routes: Sequence[RouteConfig]) -> tuple[Route, ...]:
    """The tables `[[routes]]`, in order."""
    return tuple(each.to_route() for each in routes)
