"""Which providers a target may name: those built in and those that others installed. It loads none of them."""

from importlib.metadata import entry_points

from monitor.config.checks import wrong
from monitor.config.wording import did_you_mean, listed, shown

__all__ = ["BUILT_IN", "GROUP", "installed", "provider_name"]

BUILT_IN = ("gloo", "generic")
"""The providers that need nothing installed."""

GROUP = "ingestion_monitor.providers"
"""The entry points' group in which other distributions name theirs."""

_NOT_BUILT_IN = {"uppzy", "rag_modulo", "openai", "ragie", "contextual", "llamacloud", "pinecone"}
"""APIs that people look for by name, and that the generic provider may be told about."""


def installed() -> tuple[str, ...]:
    """The names of the providers that other distributions brought, sorted."""
    return tuple(sorted(set(entry_points(group=GROUP).names)))


def provider_name(name: str) -> str:
    """The name of a provider that exists.

    Raises:
        PydanticCustomError: there is none of that name; the text is a predicate.
    """
    if name in BUILT_IN:
        return name
    others = installed()  # asked only for a name that is not ours: it takes a while
    if name in others:
        return name
    known = [*BUILT_IN, *others]
    if name.lower() in _NOT_BUILT_IN:
        raise wrong(f'must be {listed(known)}: {shown(name)} is not built in, but "generic" can be told how to ask it')
    raise wrong("is not a known provider" + (did_you_mean(name, known) or f": use {listed(known)}"))
