"""What the shell completes behind an option: names from the configuration, and the words that options accept.

It must be fast and never fail: what can't be read completes nothing.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from monitor.cli.exit_codes import FailOn

if TYPE_CHECKING:
    from monitor.config import Config


def _config(ctx: typer.Context) -> "Config | None":
    """The configuration that the command line names; None if it can't be read."""
    from monitor.config import load_config
    from monitor.errors import MonitorError

    given = ctx.params.get("config")
    with suppress(MonitorError, OSError, ValueError), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        return load_config(Path(given) if given else None)
    return None


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def target_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The configured targets."""
    config = _config(ctx)
    return _beginning([target.name for target in config.targets] if config else [], incomplete)


def channel_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The configured channels, and the log."""
    config = _config(ctx)
    return _beginning([*(channel.name for channel in config.channels), "log"] if config else [], incomplete)


def built_in_provider_names(incomplete: str) -> list[str]:
    """The APIs that are built in, and generic."""
    from monitor.providers.registry import built_in_names

    return _beginning(built_in_names(), incomplete)


def state_names(incomplete: str) -> list[str]:
    """The item states, and those of items that are neither counted nor checked."""
    from monitor.model import ItemState

    return _beginning([*(state.value for state in ItemState), "removed", "ignored"], incomplete)


def known_state_names(incomplete: str) -> list[str]:
    """The item states that can be the last known one."""
    from monitor.model import ItemState

    return _beginning([state.value for state in ItemState if state is not ItemState.UNKNOWN], incomplete)


def cause_names(incomplete: str) -> list[str]:
    """The causes of incidents."""
    from monitor.model import Cause

    return _beginning([cause.value for cause in Cause], incomplete)


def fail_on_words(incomplete: str) -> list[str]:
    """The words of `--fail-on`, behind those that are already there."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{word.value}" for word in FailOn if word.value.startswith(last)]


def matchers(ctx: typer.Context, incomplete: str) -> list[str]:
    """`ATTRIBUTE=` of a matcher, then its values."""
    from monitor.model import Cause, Severity, Team
    from monitor.notifications.routing import ATTRIBUTES

    attribute, equals, begun = incomplete.partition("=")
    if not equals:
        return [f"{name}=" for name in ATTRIBUTES if name.startswith(attribute)]
    fixed: dict[str, Any] = {"cause": Cause, "severity": Severity, "team": Team}
    values: Sequence[str] = [each.value for each in fixed.get(attribute, ())]
    if attribute == "target":
        values = target_names(ctx, "")
    return [f"{attribute}={value}" for value in values if value.startswith(begun)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completes fixed words."""
    return lambda incomplete: _beginning(words, incomplete)
