"""Where messages go and which: the tables `[[channels]]` and `[[routes]]`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from monitor.config.channel_settings import (
    CHANNEL_TYPES,
    AlertmanagerConfig,
    AppriseConfig,
    EmailConfig,
    LogConfig,
    PagerDutyConfig,
    SlackConfig,
    UnknownChannelConfig,
    WebhookConfig,
)
from monitor.config.fields import GlobPatterns
from monitor.config.section import Remedy, Section
from monitor.notifications.routing import Route

_TAG = "channel:"
"""Before a type, where pydantic says at which of the forms it found a mistake."""


def _channel_tag(raw: object) -> str:
    type_ = raw.get("type") if isinstance(raw, Mapping) else getattr(raw, "type", None)
    return f"{_TAG}{type_}" if isinstance(type_, str) and type_ in CHANNEL_TYPES else _TAG


AnyChannelConfig = Annotated[
    Annotated[LogConfig, Tag("channel:log")]
    | Annotated[WebhookConfig, Tag("channel:webhook")]
    | Annotated[SlackConfig, Tag("channel:slack")]
    | Annotated[EmailConfig, Tag("channel:email")]
    | Annotated[PagerDutyConfig, Tag("channel:pagerduty")]
    | Annotated[AlertmanagerConfig, Tag("channel:alertmanager")]
    | Annotated[AppriseConfig, Tag("channel:apprise")]
    | Annotated[UnknownChannelConfig, Tag(_TAG)],
    Discriminator(_channel_tag),
]
"""A channel in the form that its type has."""


class RouteConfig(Section):
    """Which incidents go to which channels; a route without `match` takes all."""

    match: Mapping[Literal["team", "cause", "target", "group", "severity", "environment"], GlobPatterns] = Field(
        default_factory=dict,
        description="What an incident must be like, by `team`, `cause`, `target`, `group`, `severity` and "
        "`environment`: each that is given has to match by any of its glob patterns. An incident about items has the "
        "groups of its items; every other one has none, and no pattern matches that.",
        examples=[{"team": ["credentials", "account"], "target": "gloo-*"}],
    )
    channels: Annotated[tuple[str, ...], Remedy("name at least one channel")] = Field(
        min_length=1, description="The names of the channels that are told; `log` is always there."
    )
    continue_: bool = Field(
        default=False,
        alias="continue",
        description="Whether later routes are tried too; left out, the first that matches is the last.",
    )

    def to_route(self) -> Route:
        """What it says, as incidents are routed."""
        match = {str(name): patterns for name, patterns in self.match.items()}
        return Route(match=match, channels=self.channels, continue_=self.continue_)
