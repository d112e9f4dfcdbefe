"""Configuration to live objects: the only place where parts are put together. It decides nothing."""

from monitor.wiring.app import App, due_times, holder, open_store, utcnow
from monitor.wiring.channels import ask_once, channel_of, fingerprint, try_channels
from monitor.wiring.clients import open_client
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
