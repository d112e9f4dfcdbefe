"""The rules and routes of a configuration, as incidents are judged and routed by them."""

from collections.abc import Mapping, Sequence

from monitor.config import Config, RuleOverride
from monitor.incidents.overrides import InForce, Override, in_force
from monitor.incidents.routing import Route
from monitor.incidents.rulebook import Rule
from monitor.model import Cause

__all__ = ["overrides_of", "routes_of", "rules_in_force", "rules_with_sources"]


def rules_in_force(overrides: Sequence[RuleOverride], *, target: str) -> Mapping[Cause, Rule]:
    """The rules of one target: the built-in ones with the configured differences laid over them, later ones last.

    Args:
        overrides: the tables `[[rules]]`, in their order.
        target: its name; `channel:NAME` for a channel, whose rule is the one of `channel_failing`.
    """
    return {cause: found.rule for cause, found in rules_with_sources(overrides, target=target).items()}


def rules_with_sources(overrides: Sequence[RuleOverride], *, target: str) -> Mapping[Cause, InForce]:
    """The same, each with where its values came from."""
    return in_force(overrides_of(overrides), target)


def overrides_of(rules: Sequence[RuleOverride]) -> tuple[Override, ...]:
    """The tables `[[rules]]`, in their order."""
    return tuple(each.override(position) for position, each in enumerate(rules))


def routes_of(config: Config) -> tuple[Route, ...]:
    """The routes, in their order."""
    return tuple(each.route() for each in config.routes)
