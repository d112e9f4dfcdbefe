"""Whether upload times without a time zone are read in the right one. Pure."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from monitor.cli.doctor.findings import Finding, Level, finding_at
from monitor.cli.doctor.locations import SettingLocation
from monitor.config import SyncLogConfig
from monitor.notifications.messages import format_age
from monitor.synclog import LogFacts

_SERVER = "server"


def check_server_zone(facts: LogFacts, log: SyncLogConfig, at: SettingLocation, *, now: datetime) -> Finding | None:
    """Compares the zone of the settings with that in which the server itself writes such times.

    None if both give the same times, the server's is not possible, or the user chose a zone that is possible.
    """
    if facts.server_zone is None or facts.newest is None or log.timezone == _SERVER:
        return None
    configured = facts.newest.replace(tzinfo=ZoneInfo(log.timezone)).astimezone(UTC)
    by_server = _by_server(facts.newest, facts.server_zone)
    if by_server is None or by_server == configured:
        return None
    if by_server > now or (configured <= now and "timezone" in log.model_fields_set):
        return None
    message = (
        f'the column "{log.submitted_at_column}" has no time zone, and this server writes {facts.server_zone}: the '
        f"newest upload was {_told(configured, now)} by {log.timezone}, and {_told(by_server, now)} by "
        f"{facts.server_zone}."
    )
    keep = f', or timezone = "{log.timezone}" if the pipeline itself writes that zone' if configured <= now else ""
    return finding_at(at, "time zone", Level.WARNING, message, f'set timezone = "{_SERVER}"{keep}')


def _by_server(newest: datetime, zone: str) -> datetime | None:
    try:
        return newest.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    except (KeyError, ValueError, OSError):  # a zone that only PostgreSQL knows
        return None


def _told(at: datetime, now: datetime) -> str:
    return f"{format_age(now - at)} ago" if at <= now else f"in the future ({format_age(at - now)} from now)"
