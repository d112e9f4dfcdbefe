"""Messages that did not reach anybody: channels that are suspended or fail, and dead letters. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from monitor.cli.doctor.findings import Finding, Level
from monitor.cli.doctor.locations import SettingLocation, SettingLocations
from monitor.config import Config
from monitor.incidents.silences import format_matchers, matches_everything
from monitor.model import Cause, ChannelState, Incident, LearnedLimits, Silence
from monitor.notifications.messages import format_age
from monitor.notifications.texts import display_name, what_to_check
from monitor.reports.notification_queries import Undelivered

_MAX_CODE_LENGTH = 60


def check_throttles(learned: LearnedLimits | None, *, now: datetime, at: SettingLocation) -> Iterator[Finding]:
    """A warning for each of the two that is so; nothing otherwise.

    Args:
        learned: about the target's origin and credential; None: nothing yet.
        now: the time (aware).
        at: the place of the target's `check`.
    """
    if learned is None:
        return
    if learned.not_before is not None and learned.not_before > now:
        yield _backoff_finding(learned, learned.not_before, at)
    if learned.down:
        message = (
            f"the API was down at the end of the last run ({_format_time(learned.at)}): the next begins with one request, "
            "and goes on if that is answered."
        )
        yield Finding(part="breaker", level=Level.WARNING, message=message)


def _backoff_finding(learned: LearnedLimits, until: datetime, at: SettingLocation) -> Finding:
    code = f", code {learned.code[:_MAX_CODE_LENGTH]}" if learned.code else ""
    status_text = f" (HTTP {learned.status}{code})" if learned.status else ""
    # a 503 asks for patience: nothing here is to be set otherwise
    is_rate_limited = learned.status == 429
    return Finding(
        part="hint",
        level=Level.WARNING,
        message=f"the API said{status_text} to come back at {_format_time(until)}: until then runs send nothing.",
        remedy="; ".join(what_to_check(Cause.RATE_LIMITED)) if is_rate_limited else "",
        setting=at.setting if is_rate_limited else None,
        location=at.where if is_rate_limited else None,
    )


def _in_words(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


LONG_SILENCE = timedelta(days=7)


def check_silences(silences: Sequence[Silence], *, now: datetime, option: str = "") -> Iterator[Finding]:
    """A warning for each silence in force or to come that lasts too long, or leaves nothing out.

    Args:
        silences: any.
        now: when (aware).
        option: what a command needs to read the same configuration.
    """
    for silence in silences:
        length = silence.ends_at - silence.starts_at
        problems = ["matches everything"] if matches_everything(silence.matchers) else []
        problems += [f"lasts {format_age(length)}"] if length > LONG_SILENCE else []
        if problems and silence.ends_at > now:
            what = f"silence {silence.id} ({format_matchers(silence.matchers)}, by {silence.author})"
            yield Finding(
                part="silences",
                level=Level.WARNING,
                message=f"{what} {' and '.join(problems)}: until {silence.ends_at:%Y-%m-%d %H:%M} UTC nobody hears of it.",
                remedy="end it, and make a narrower or a shorter one",
                command=f"ingestion-monitor silences expire {silence.id}{option}",
            )


_RETRY_COMMAND = "ingestion-monitor notifications retry"


def check_notifications(
    states: Mapping[str, ChannelState], undelivered: Sequence[Undelivered], *, now: datetime
) -> Iterator[Finding]:
    """A problem for each channel through which nothing gets, a warning for each with dead letters; else nothing.

    Args:
        states: of the channels that ever failed, by name.
        undelivered: what did not get through lately, by channel.
        now: the time (aware).
    """
    counts = {each.channel: each for each in undelivered}
    for name in sorted({*states, *counts}):
        state, count = states.get(name, ChannelState(name=name)), counts.get(name)
        waiting, dead = (count.waiting, count.dead) if count else (0, 0)
        if state.suspended_at is not None:
            message = f"it is suspended since {_format_time(state.suspended_at)} ({state.last_error}); waiting: {_messages(waiting)}."
            remedy = "mend its settings, or the receiver; then"
            yield Finding(
                part=name,
                level=Level.PROBLEM,
                message=message,
                remedy=remedy,
                command=f"{_RETRY_COMMAND} --channel {name}",
            )
        elif state.failing_since is not None and state.failing_since < now:
            message = f"nothing gets through since {_format_time(state.failing_since)} ({state.last_error}); it is tried again."
            yield Finding(part=name, level=Level.WARNING, message=message)
        if dead:
            message = f"{_messages(dead)} of the last week given up: `ingestion-monitor notifications dead` has them."
            command = f"{_RETRY_COMMAND} --dead --channel {name}"
            yield Finding(
                part=name, level=Level.WARNING, message=message, remedy="to send them all the same", command=command
            )


def check_orphaned_incidents(open_incidents: Sequence[Incident], known_targets: Collection[str]) -> Iterator[Finding]:
    """A warning for each open incident of a target that is not configured any more: no run will ever end it.

    Args:
        open_incidents: open incidents, those of channels included.
        known_targets: names of the targets that there are.
    """
    for incident in open_incidents:
        if incident.target not in known_targets and display_name(incident.target) == incident.target:
            message = f"incident {incident.id} ({incident.cause.value}) is open, and there is no such target any more."
            end = f"ingestion-monitor incidents resolve {incident.id}"
            yield Finding(
                part=incident.target, level=Level.WARNING, message=message, remedy="end it by hand", command=end
            )


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _format_time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def check_routes(config: Config, locations: SettingLocations) -> list[Finding]:
    """A warning for each channel that no route names, or that all is well."""
    if not config.channels:
        return [_finding(Level.OK, "there is no channel: incidents go to the log.")]
    if not config.routes:
        return [_finding(Level.OK, "there is no route: every channel hears of every incident.")]
    routed = {channel for route in config.routes for channel in route.channels}
    findings = [
        _finding(
            Level.WARNING,
            f"no route leads to the channel {channel.name}: it hears of nothing.",
            locations.of("channels", row),
            "name it in a route, or remove it",
        )
        for row, channel in enumerate(config.channels)
        if channel.name not in routed
    ]
    return findings or [_finding(Level.OK, f"each of {len(config.routes)} can be taken, and each channel is reached.")]


def _finding(level: Level, message: str, at: SettingLocation | None = None, remedy: str = "") -> Finding:
    return Finding(
        part="routes",
        level=level,
        message=message,
        remedy=remedy,
        setting=at.setting if at else None,
        location=at.where if at else None,
    )
