"""The provider of a target, set up as its configuration says."""

from collections.abc import Iterable, Mapping

from monitor.config import Target
from monitor.errors import ConfigError
from monitor.providers import Provider, ProviderSettings
from monitor.providers.found import provider_for
from monitor.wiring.clients import auth_of

__all__ = ["provider_of", "try_providers"]


def provider_of(target: Target) -> Provider:
    """The provider of a target, set up as its configuration says.

    Raises:
        ConfigError: it can't work with these settings.
    """
    settings = ProviderSettings(
        target=target.name,
        base_url=target.base_url,
        publisher_id=target.publisher_id,
        statuses={str(state): names for state, names in target.statuses.items()},
        list_max_bytes=target.check.list_max_mb << 20,
        options=_options(target),
    )
    return provider_for(target.provider, settings)


def _options(target: Target) -> Mapping[str, object]:
    if target.provider != "generic":
        return target.options
    return {
        "item": target.item.model_dump() if target.item else None,
        "list": target.list_.model_dump() if target.list_ else None,
        "headers": dict(target.headers),
    }


def try_providers(targets: Iterable[Target]) -> None:
    """Sets every target's provider up once, so that what is wrong with one is said before any network or write.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    for target in targets:
        try:
            auth_of(target, provider_of(target))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
