"""Channels that no route leads to. Pure; a route that could never be taken is a mistake that no command accepts."""

from monitor.config import Config
from monitor.doctor.places import Place, Places
from monitor.report.doctor import Finding, Level

__all__ = ["judge"]


def judge(config: Config, places: Places) -> list[Finding]:
    """A warning for each channel that no route names, or that all is well."""
    if not config.channels:
        return [_finding(Level.OK, "there is no channel: incidents go to the log.")]
    if not config.routes:
        return [_finding(Level.OK, "there is no route: every channel hears of every incident.")]
    named = {channel for route in config.routes for channel in route.channels}
    found = [
        _finding(
            Level.WARNING,
            f"no route leads to the channel {channel.name}: it hears of nothing.",
            places.of("channels", row),
            "name it in a route, or remove it",
        )
        for row, channel in enumerate(config.channels)
        if channel.name not in named
    ]
    return found or [_finding(Level.OK, f"each of {len(config.routes)} can be taken, and each channel is reached.")]


def _finding(level: Level, says: str, at: Place | None = None, remedy: str = "") -> Finding:
    return Finding(
        part="routes",
        level=level,
        says=says,
        remedy=remedy,
        setting=at.setting if at else None,
        place=at.where if at else None,
    )
