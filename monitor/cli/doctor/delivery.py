"""What stops requests or messages: inherited limits, silences, failing channels, dead letters, routes. Pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from monitor.cli.doctor.findings import Finding, Level, finding_at
from monitor.cli.doctor.locations import SettingLocation, SettingLocations
from monitor.config import Config
from monitor.config.fields import did_you_mean, format_choices
from monitor.incidents.silences import format_matchers, matches_everything
from monitor.model import Cause, ChannelState, Incident, LearnedLimits, Silence, Snapshot
from monitor.notifications.messages import format_age
from monitor.notifications.texts import channel_target, display_name, what_to_check
from monitor.reports.notification_queries import Undelivered

_MAX_CODE_LENGTH = 60


_SLOW_RUN_S, _SLOW_SHARE = 5.0, 0.5


def check_throttles(
    learned: LearnedLimits | None, *, now: datetime, at: SettingLocation, last: Snapshot | None = None
) -> Iterator[Finding]:
    """Warnings about a Retry-After that is still running, an open circuit breaker, and a learned rate that made the
    `last` run slow, as earlier runs learned; a rate that did not is mentioned.
    """
    if learned is None:
        return
    if learned.not_before is not None and learned.not_before > now:
        yield _backoff_finding(learned, learned.not_before, at)
    if learned.down:
        message = (
            f"the API was down at the end of the last run ({_format_time(learned.at)}): "
            "the next run sends one request, and continues if it is answered."
        )
        yield Finding(part="breaker", level=Level.WARNING, message=message)
    if learned.rate_per_s is not None:
        yield _rate_finding(learned.rate_per_s, last, at)


def _rate_finding(rate_per_s: float, last: Snapshot | None, at: SettingLocation) -> Finding:
    known = f"earlier runs learned a rate of {rate_per_s:.3g} requests/s"
    if last is None or last.duration_s < _SLOW_RUN_S or last.requests / rate_per_s < _SLOW_SHARE * last.duration_s:
        return Finding(part="rate", level=Level.OK, message=f"{known}; it rises by itself over clean runs.")
    slow = f"so the last run took {last.duration_s:.0f} s for {last.requests} requests"
    remedy = "it rises by itself over clean runs; ask the provider for a higher limit, or set check.rate_share"
    return finding_at(at, "rate", Level.WARNING, f"{known}, {slow}.", remedy)


def _backoff_finding(learned: LearnedLimits, until: datetime, at: SettingLocation) -> Finding:
    code = f", code {learned.code[:_MAX_CODE_LENGTH]}" if learned.code else ""
    status_text = f" (HTTP {learned.status}{code})" if learned.status else ""
    # after a 503 there is no setting to change
    is_rate_limited = learned.status == 429
    message = f"the API asked to wait{status_text}: runs send nothing until {_format_time(until)}."
    remedy = "; ".join(what_to_check(Cause.RATE_LIMITED)) if is_rate_limited else ""
    return finding_at(at if is_rate_limited else None, "retry-after", Level.WARNING, message, remedy)


LONG_SILENCE = timedelta(days=7)


def check_silences(silences: Sequence[Silence], *, now: datetime, option: str = "") -> Iterator[Finding]:
    """A warning for each silence in force or to come that lasts over 7 days, or matches everything."""
    for silence in silences:
        length = silence.ends_at - silence.starts_at
        problems = ["matches everything"] if matches_everything(silence.matchers) else []
        problems += [f"lasts {format_age(length)}"] if length > LONG_SILENCE else []
        if problems and silence.ends_at > now:
            what = f"silence {silence.id} ({format_matchers(silence.matchers)}, by {silence.author})"
            yield Finding(
                part="silences",
                level=Level.WARNING,
                message=f"{what} {' and '.join(problems)}: no messages until {silence.ends_at:%Y-%m-%d %H:%M} UTC.",
                remedy="expire it, and add a narrower or a shorter one",
                command=f"ingestion-monitor silences expire {silence.id}{option}",
            )


_RETRY_COMMAND = "ingestion-monitor notifications retry"


def check_notifications(
    states: Mapping[str, ChannelState], undelivered: Sequence[Undelivered], *, now: datetime
) -> Iterator[Finding]:
    """A problem for each suspended channel, a warning for each that fails or has dead letters."""
    counts = {each.channel: each for each in undelivered}
    for name in sorted({*states, *counts}):
        state, count = states.get(name, ChannelState(name=name)), counts.get(name)
        waiting, dead = (count.waiting, count.dead) if count else (0, 0)
        if state.suspended_at is not None:
            since = _format_time(state.suspended_at)
            message = f"suspended since {since} ({state.last_error}); {_messages(waiting)} waiting."
            remedy = "fix its settings, or the receiver; then"
            yield Finding(
                part=name,
                level=Level.PROBLEM,
                message=message,
                remedy=remedy,
                command=f"{_RETRY_COMMAND} --channel {name}",
            )
        elif state.failing_since is not None and state.failing_since < now:
            message = f"failing since {_format_time(state.failing_since)} ({state.last_error}); it is tried again."
            yield Finding(part=name, level=Level.WARNING, message=message)
        if dead:
            message = f"{_messages(dead)} of the last week given up: see `ingestion-monitor notifications dead`."
            command = f"{_RETRY_COMMAND} --dead --channel {name}"
            yield Finding(
                part=name, level=Level.WARNING, message=message, remedy="to send them anyway", command=command
            )


def check_orphaned_incidents(open_incidents: Sequence[Incident], known_targets: Collection[str]) -> Iterator[Finding]:
    """A warning for each open incident of a target that is not configured any more: no run will resolve it."""
    for incident in open_incidents:
        if incident.target not in known_targets and display_name(incident.target) == incident.target:
            message = (
                f"incident {incident.id} ({incident.cause.value}) is open, but this target is not configured any more."
            )
            end = f"ingestion-monitor incidents resolve {incident.id}"
            yield Finding(part=incident.target, level=Level.WARNING, message=message, remedy="resolve it", command=end)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _format_time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def check_routes(config: Config, locations: SettingLocations) -> list[Finding]:
    """A warning for each channel that no route names, or that all is well."""
    if not config.channels:
        return [_finding(Level.OK, "there is no channel: incidents go to the log.")]
    if not config.routes:
        return [_finding(Level.OK, "there is no route: every channel gets every incident.")]
    routed = {channel for route in config.routes for channel in route.channels}
    routed.update(config.report.channels if config.report else ())
    findings = [
        _finding(
            Level.WARNING,
            f"no route leads to the channel {channel.name}: it gets no notifications.",
            locations.of("channels", row),
            "name it in a route, or remove it",
        )
        for row, channel in enumerate(config.channels)
        if channel.name not in routed
    ]
    return findings or [_finding(Level.OK, "every channel is in a route.")]


def check_target_patterns(config: Config, locations: SettingLocations) -> Iterator[Finding]:
    """A warning for each rule or route whose patterns match no configured target, and for groups that no target has.

    These are no errors: several deployments with different targets can share a file.
    """
    targets = [target.name for target in config.targets]
    channels = [channel_target(channel.name) for channel in config.channels]
    for row, rule in enumerate(config.rules):
        at = locations.of("rules", row, "target")
        about_channels = rule.cause is Cause.CHANNEL_FAILING
        names, what = (channels, "channel") if about_channels else (targets, "target")
        yield from _unmatched(f"rules[{row}]", rule.target or (), names, what=what, at=at)
    has_groups = any(target.sync_log is None or target.sync_log.group_column for target in config.targets)
    for row, route in enumerate(config.routes):
        at = locations.of("routes", row, "match", "target")
        yield from _unmatched(f"routes[{row}]", route.match.get("target", ()), [*targets, *channels], at=at)
        if "group" in route.match and not has_groups:
            patterns = format_choices(route.match["group"])
            message = f"routes[{row}] is for group {patterns}, but no target of this configuration has groups."
            at = locations.of("routes", row, "match", "group")
            yield _finding(Level.WARNING, message, at, "set group_column in a sync_log, or remove the route")


def _unmatched(
    table: str, patterns: Iterable[str], names: Sequence[str], *, what: str = "target", at: SettingLocation
) -> Iterator[Finding]:
    """A warning with the patterns that match none of the names, if any."""
    unmatched = [each for each in patterns if not any(fnmatchcase(name, each) for name in names)]
    if unmatched:
        hint = next(filter(None, (did_you_mean(each.strip("*?"), names) for each in unmatched)), ".")
        message = f"{table} is for {format_choices(unmatched)}, which matches no {what} of this configuration{hint}"
        remedy = f"fix the pattern, or ignore this if another deployment has such a {what}"
        yield _finding(Level.WARNING, message, at, remedy, part=table.partition("[")[0])


def _finding(
    level: Level, message: str, at: SettingLocation | None = None, remedy: str = "", part: str = "routes"
) -> Finding:
    return Finding(
        part=part,
        level=level,
        message=message,
        remedy=remedy,
        setting=at.setting if at else None,
        location=at.where if at else None,
    )
