"""Which providers there are, built in and from entry points, and the one that a target names.

An installed distribution adds a provider with an entry point in the group `ingestion_monitor.providers`: its name is
what configuration calls it, its object a callable that takes `ProviderSettings` and gives a `Provider`. Only the one
that is named is loaded.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points

from monitor.errors import ConfigError
from monitor.providers import Provider, ProviderSettings


def _gloo(settings: ProviderSettings) -> Provider:
    from monitor.providers.gloo import Gloo

    return Gloo.from_settings(settings)


def _generic(settings: ProviderSettings) -> Provider:
    from monitor.providers.generic import Generic

    return Generic.from_settings(settings)


_BUILT_IN: Mapping[str, Callable[[ProviderSettings], Provider]] = {"gloo": _gloo, "generic": _generic}
"""What an entry point can't take over."""

_REQUIRED_MEMBERS = tuple(name for name in vars(Provider) if not name.startswith("_"))


def provider_for(name: str, settings: ProviderSettings) -> Provider:
    """The provider that a target names.

    Raises:
        ConfigError: the name is unknown, its distribution is broken, or the provider can't work with the settings.
    """
    factory = _BUILT_IN.get(name)
    return _installed_provider(name, settings) if factory is None else factory(settings)


def _installed_provider(name: str, settings: ProviderSettings) -> Provider:
    where = f"targets.{settings.target}.provider = {name[:60]!r}"
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        names = ", ".join([*BUILT_IN, *installed_providers()])
        raise ConfigError([f"{where} is not known: use one of {names}, or install the package that provides it"])
    packages = sorted({_distribution(point) for point in found})
    if len(packages) > 1:
        raise ConfigError([f"{where} comes from several packages ({', '.join(packages)}): uninstall all but one"])
    return _load(found[0], settings, f"{where} comes from the package {packages[0]}, which")


def _load(point: EntryPoint, settings: ProviderSettings, subject: str) -> Provider:
    remedy = "mend or reinstall that package, or name another provider"
    try:
        factory = point.load()
        provider = factory(settings)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError([f"{subject} can't be imported ({error}): {remedy}"]) from error
    except Exception as error:  # foreign code may raise anything
        raise ConfigError([f"{subject} failed with {type(error).__name__}: {remedy}"]) from error
    missing = [member for member in _REQUIRED_MEMBERS if not hasattr(provider, member)]
    if missing:
        raise ConfigError([f"{subject} gives a provider without {', '.join(missing)}: {remedy}"])
    checked: Provider = provider
    return checked


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


BUILT_IN = ("gloo", "generic")
"""The providers that need nothing installed."""


ENTRY_POINT_GROUP = "ingestion_monitor.providers"
"""The entry points' group in which other distributions name theirs."""


def installed_providers() -> tuple[str, ...]:
    """The names of the providers that other distributions brought, sorted."""
    return tuple(sorted(set(entry_points(group=ENTRY_POINT_GROUP).names)))
