"""Where messages go and which: the tables `[[channels]]` and `[[routes]]`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from monitor.config.checks import Name, Patterns, WebhookUrl, wrong
from monitor.config.secret import Secret
from monitor.config.section import Remedy, Section
from monitor.incidents.routing import Route

__all__ = ["ChannelConfig", "RouteConfig"]


class ChannelConfig(Section):
    """One place to which messages go."""

    name: Annotated[Name, Remedy("give the channel a name, such as oncall")] = Field(
        description="How routes and messages about it call the channel."
    )
    type: Annotated[Literal["log", "webhook", "slack"], Remedy('say what it is: "log", "webhook" or "slack"')] = Field(
        description="`log`: the monitor's own log. `webhook`: JSON posted to a URL of yours. `slack`: an incoming "
        "webhook of Slack's."
    )
    url: WebhookUrl | None = Field(
        default=None,
        validate_default=True,
        description="Where the webhook or Slack listens. It is a secret: whoever knows it can post there.",
    )

    @field_validator("url")
    @classmethod
    def _as_the_type_wants(cls, url: Secret | None, info: ValidationInfo) -> Secret | None:
        type_ = info.data.get("type")
        if type_ in {"webhook", "slack"} and url is None:
            whose = "webhook's url" if type_ == "webhook" else "url of Slack's incoming webhook"
            raise wrong(f"is missing: give the {whose}, or url_file with the path of a file that holds it")
        if type_ == "log" and url is not None:
            raise wrong("has no meaning for the log: remove it")
        return url


class RouteConfig(Section):
    """Which incidents go to which channels; a route without `match` takes all."""

    match: Mapping[Literal["team", "cause", "target", "group", "severity", "environment"], Patterns] = Field(
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

    def route(self) -> Route:
        """What it says, as incidents are routed."""
        match = {str(name): patterns for name, patterns in self.match.items()}
        return Route(match=match, channels=self.channels, goes_on=self.continue_)
