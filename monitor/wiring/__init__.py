"""Configuration to live objects: the only place where parts are put together. It decides nothing.

Each name is loaded with its first use: what reads the database alone takes no HTTP client, and no run, along.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.wiring.app import App, due_times
    from monitor.wiring.channels import ask_once, channel_of, fingerprint, try_channels
    from monitor.wiring.clients import open_client
    from monitor.wiring.process import holder, open_store, utcnow
    from monitor.wiring.providers import provider_of, try_providers
    from monitor.wiring.rules import overrides_of, routes_of, rules_in_force, rules_with_sources
    from monitor.wiring.sharing import lend

__all__ = [
    "App",
    "ask_once",
    "channel_of",
    "due_times",
    "fingerprint",
    "holder",
    "lend",
    "open_client",
    "open_store",
    "overrides_of",
    "provider_of",
    "routes_of",
    "rules_in_force",
    "rules_with_sources",
    "try_channels",
    "try_providers",
    "utcnow",
]

_HOMES = {
    "app": ("App", "due_times"),
    "channels": ("ask_once", "channel_of", "fingerprint", "try_channels"),
    "clients": ("open_client",),
    "process": ("holder", "open_store", "utcnow"),
    "providers": ("provider_of", "try_providers"),
    "rules": ("overrides_of", "routes_of", "rules_in_force", "rules_with_sources"),
    "sharing": ("lend",),
}
"""Which module of this package each name is from."""


def __getattr__(name: str) -> object:
    """Finds a name of this package when it is first asked for (PEP 562)."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found  # the next time it is simply there
    return found
