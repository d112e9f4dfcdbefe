"""Checks what workers need: some that are alive, clocks that agree, and how they notice jobs."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

from monitor.cli.doctor.findings import Finding, Level, finding_at, with_full_stop
from monitor.cli.doctor.locations import SettingLocations
from monitor.config import Config
from monitor.database.engine import connect_read_only, reading
from monitor.errors import StoreError
from monitor.fleet.state import QueueAccess
from monitor.reports.fleet import FleetView, fleet_problems, fleet_verdict, fleet_view

MAX_CLOCK_OFFSET = timedelta(seconds=5)
"""Due times are the daemon's, and deadlines of shares the server's."""


async def check_workers(config: Config, locations: SettingLocations, *, now: datetime) -> AsyncIterator[Finding]:
    """Findings about the workers and how jobs reach them; `now` is this machine's clock.

    There are none if the database can't be read or has no queue, about which there are other findings.
    """
    engine = connect_read_only(config.database.reveal())
    try:
        with reading(engine) as conn:
            view = fleet_view(conn, config.fleet)
    except StoreError:
        return
    finally:
        engine.dispose()
    if view is None or view.state.queue.access is QueueAccess.MISSING:
        return
    yield _workers(view, locations)
    if view.state.queue.access is QueueAccess.READABLE:
        yield _clock(view, now)
        yield await _notifications(config, locations)


def _workers(view: FleetView, locations: SettingLocations) -> Finding:
    at = locations.of("fleet", "workers")
    problem = next(fleet_problems(view), None)
    if problem is not None:
        level = Level.PROBLEM if problem.serious else Level.WARNING
        message = with_full_stop(f"{problem.sentence[:1].upper()}{problem.sentence[1:]}")
        return finding_at(at, "workers", level, message, problem.remedy)
    return Finding(part="workers", level=Level.OK, message=fleet_verdict(view).sentence)


def _clock(view: FleetView, now: datetime) -> Finding:
    offset = now - view.state.now
    if abs(offset) <= MAX_CLOCK_OFFSET:
        return Finding(part="clock", level=Level.OK, message="ours and the database server's agree within 5 s.")
    seconds = round(abs(offset).total_seconds())
    message = f"ours is {seconds} s {'ahead of' if offset > timedelta() else 'behind'} the database server's."
    remedy = "synchronise the clocks of this machine and the server (NTP): run keys and deadlines depend on both"
    return Finding(part="clock", level=Level.WARNING, message=message, remedy=remedy)


async def _notifications(config: Config, locations: SettingLocations) -> Finding:
    """Whether workers hear of jobs (LISTEN) or look for them once a second."""
    # Procrastinate is loaded only where workers are used
    from monitor.database.urls import parse
    from monitor.fleet.connector import QueueConnector

    listen_url = config.fleet.listen_url
    connector = QueueConnector(
        parse(config.database.reveal()), listen_url=parse(listen_url.reveal()) if listen_url else None
    )
    try:
        listening = await connector.can_listen()
    except StoreError as error:
        at = locations.of("fleet", "listen_url")
        remedy = "fix fleet.listen_url, or remove it: until then workers look for jobs once a second"
        return finding_at(at, "jobs", Level.WARNING, with_full_stop(str(error)), remedy)
    if listening:
        return Finding(part="jobs", level=Level.OK, message="workers hear of new jobs at once (LISTEN).")
    if listen_url is not None:
        message = "fleet.listen_url leads to a pooler, too: workers look for jobs once a second."
        at = locations.of("fleet", "listen_url")
        return finding_at(at, "jobs", Level.WARNING, message, "name the PostgreSQL server itself, or remove it")
    message = "the database is behind a pooler: workers look for jobs once a second (fleet.listen_url avoids that)."
    return Finding(part="jobs", level=Level.OK, message=message)
