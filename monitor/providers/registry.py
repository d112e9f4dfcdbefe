"""The providers, described, coded and installed: finds and makes the one that a target names.

A package adds a provider with an entry point in the group `ingestion_monitor.providers`: its name is the provider's
name in the configuration, its object a callable that takes `ProviderSettings` and returns a `Provider`. Only the named
provider is loaded.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points

from monitor.errors import ConfigError
from monitor.providers import Provider, ProviderSettings
from monitor.providers.preset import find_preset, preset_names


def _gloo(settings: ProviderSettings) -> Provider:
    from monitor.providers.gloo import Gloo

    return Gloo.from_settings(settings)


def _described(name: str, settings: ProviderSettings) -> Provider:
    from monitor.providers.generic import Generic

    return Generic.from_settings(settings, name=name)


_CODED: Mapping[str, Callable[[ProviderSettings], Provider]] = {"gloo": _gloo}
"""Descriptions with faster readers of their own, by name."""

GENERIC = "generic"
"""The provider that a target itself describes."""


def built_in_names() -> tuple[str, ...]:
    """All names but those of installed packages, which can't replace one of these; sorted, the generic one last."""
    return (*sorted({*_CODED, *preset_names()}), GENERIC)


def is_described(name: str) -> bool:
    """Whether it is a description, a preset's or the target's own, so that a target can override each of its keys."""
    if name == GENERIC:
        return True
    preset = find_preset(name)
    return preset is not None and preset.is_description


ENTRY_POINT_GROUP = "ingestion_monitor.providers"

_REQUIRED_MEMBERS = tuple(name for name in vars(Provider) if not name.startswith("_"))


def provider_for(name: str, settings: ProviderSettings) -> Provider:
    """The provider of that name. Raises ConfigError if it is unknown, broken, or can't work with the settings."""
    if name in _CODED:
        return _CODED[name](settings)
    return _described(name, settings) if is_described(name) else _installed_provider(name, settings)


def _installed_provider(name: str, settings: ProviderSettings) -> Provider:
    where = f"targets.{settings.target}.provider = {name[:60]!r}"
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not found:
        names = ", ".join([*built_in_names(), *installed_providers()])
        raise ConfigError([f"{where} is not known: use one of {names}, or install the package that provides it"])
    packages = sorted({point.dist.name if point.dist is not None else point.module for point in found})
    if len(packages) > 1:
        raise ConfigError([f"{where} comes from several packages ({', '.join(packages)}): uninstall all but one"])
    return _load(found[0], settings, f"{where} comes from the package {packages[0]}, which")


def _load(point: EntryPoint, settings: ProviderSettings, subject: str) -> Provider:
    remedy = "fix or reinstall that package, or use another provider"
    try:
        factory = point.load()
        provider: Provider = factory(settings)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError([f"{subject} can't be imported ({error}): {remedy}"]) from error
    except Exception as error:  # third-party code may raise anything
        raise ConfigError([f"{subject} failed with {type(error).__name__}: {remedy}"]) from error
    missing = [member for member in _REQUIRED_MEMBERS if not hasattr(provider, member)]
    if missing:
        raise ConfigError([f"{subject} gives a provider without {', '.join(missing)}: {remedy}"])
    return provider


def installed_providers() -> tuple[str, ...]:
    """Names of the providers from entry points, sorted."""
    return tuple(sorted(set(entry_points(group=ENTRY_POINT_GROUP).names)))
