"""Routes that lead nowhere: never reached, or for what can't be; and channels that nobody is sent to. Pure."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from monitor.config import Config
from monitor.doctor.places import Place, Places
from monitor.incidents.words import channel_target
from monitor.model import Cause, Severity, Team
from monitor.report.doctor import Finding, Level

__all__ = ["judge"]


def judge(config: Config, places: Places) -> list[Finding]:
    """A warning for each route that no incident takes and each channel that none reaches, or that all is well."""
    if not config.channels:
        return [_finding(Level.OK, "there is no channel: incidents go to the log.")]
    if not config.routes:
        return [_finding(Level.OK, "there is no route: every channel hears of every incident.")]
    found = [*_unmatched(config, places), *_unreached(config, places), *_unheard(config, places)]
    return found or [_finding(Level.OK, f"each of {len(config.routes)} can be taken, and each channel is reached.")]


def _unmatched(config: Config, places: Places) -> list[Finding]:
    possible = _possible(config)
    return [
        _finding(
            Level.WARNING,
            f"route {row + 1} matches nothing: there is no {attribute} like {' or '.join(patterns)}.",
            places.of("routes", row, "match", attribute),
        )
        for row, route in enumerate(config.routes)
        for attribute, patterns in route.match.items()
        if not any(fnmatchcase(value, pattern) for value in possible[attribute] for pattern in patterns)
    ]


def _unreached(config: Config, places: Places) -> list[Finding]:
    last = next((row for row, route in enumerate(config.routes) if not route.match and not route.continue_), None)
    if last is None or last == len(config.routes) - 1:
        return []
    behind = ", ".join(str(row + 1) for row in range(last + 1, len(config.routes)))
    says = f"route {last + 1} takes everything, so that these are never reached: {behind}."
    return [_finding(Level.WARNING, says, places.of("routes", last), "put it last, or say continue = true in it")]


def _unheard(config: Config, places: Places) -> list[Finding]:
    named = {channel for route in config.routes for channel in route.channels}
    return [
        _finding(
            Level.WARNING,
            f"no route leads to the channel {channel.name}: it hears of nothing.",
            places.of("channels", row),
            "name it in a route, or remove it",
        )
        for row, channel in enumerate(config.channels)
        if channel.name not in named
    ]


def _possible(config: Config) -> Mapping[str, Sequence[str]]:
    """Every value that an incident's attribute can have."""
    targets = [target.name for target in config.targets]
    return {
        "team": list(Team),
        "target": [*targets, *(channel_target(channel.name) for channel in config.channels)],
        "cause": list(Cause),
        "severity": list(Severity),
        "environment": [config.environment],
    }


def _finding(level: Level, says: str, at: Place | None = None, remedy: str = "") -> Finding:
    return Finding(
        part="routes",
        level=level,
        says=says,
        remedy=remedy,
        setting=at.setting if at else None,
        place=at.where if at else None,
    )
