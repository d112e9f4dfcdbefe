"""Runs all checks of `doctor`. After a failure, only the parts that depend on it are skipped.

No row and no incident is changed. A missing SQLite database is created, as `check` would. Beside workers it claims its
part of a credential's limits while it asks.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from monitor.app import App, build_provider, utcnow
from monitor.app.throttles import limits_of, throttle_key
from monitor.cli.doctor import api_probe, database, delivery, fleet, secret_files, web
from monitor.cli.doctor.api_findings import api_findings
from monitor.cli.doctor.api_probe import probe_api
from monitor.cli.doctor.canary import check_canary
from monitor.cli.doctor.channels import check_channel, destination_setting, send_test
from monitor.cli.doctor.database import HostInfo, check_database, sqlite_file
from monitor.cli.doctor.findings import Finding, Level, with_full_stop
from monitor.cli.doctor.locations import SettingLocations, lines_of
from monitor.cli.doctor.synclog import SAMPLE, LogSample, check_ids, check_log, log_unreadable, read_sample
from monitor.cli.doctor.upload_times import check_server_zone
from monitor.cli.exit_codes import USAGE
from monitor.config import Config, TargetConfig
from monitor.database.engine import connect, connect_read_only, reading
from monitor.errors import ConfigError, MonitorError, StoreError
from monitor.incidents import silence_store
from monitor.incidents import store as incident_store
from monitor.logs import crash_text
from monitor.model import LearnedLimits, Silence
from monitor.notifications import channel_state
from monitor.providers import Provider
from monitor.reports.notification_queries import undelivered
from monitor.runs import store as run_store
from monitor.runs import throttle_store
from monitor.synclog import LogFacts

_T = TypeVar("_T")

_RECENT = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Tries everything that a configuration describes."""

    config: Config
    host: HostInfo
    option: str = ""
    """The option that reads the same configuration, such as ` --config other.toml`; it is added to commands."""

    async def examine(self, targets: Sequence[str], *, test_channels: bool) -> AsyncIterator[Finding]:
        """Yields findings: configuration, database, disk, silences, web, secret files, workers, targets, channels,
        routes.
        """
        locations = setting_locations(self.config)
        for finding in self._general_findings(locations):
            yield finding
        if self.config.fleet.workers:
            async for finding in fleet.check_workers(self.config, locations, now=utcnow()):
                yield replace(finding, about="workers")
        for row, target in enumerate(self.config.targets):
            if target.name in targets:
                async for finding in self._target_apart(target, row, locations):
                    yield replace(finding, about=f"target {target.name}")
        for row, channel in enumerate(self.config.channels):
            at = locations.of("channels", row, destination_setting(channel))
            finding = await send_test(channel, self.config, at) if test_channels else check_channel(channel, at)
            yield replace(finding, about="channels")
        patterns = delivery.check_target_patterns(self.config, locations)
        for finding in (*self._messages(), *delivery.check_routes(self.config, locations), *patterns):
            yield replace(finding, about="channels")

    def _general_findings(self, locations: SettingLocations) -> Iterator[Finding]:
        """Findings that are about no single target or channel."""
        yield from _configuration(self.config)
        url, at = self.config.database.reveal(), locations.of("database")
        yield check_database(url, at, option=self.option)
        if self.config.fleet.workers:
            queue_finding = database.check_queue(url, locations.of("fleet", "workers"), option=self.option)
            if queue_finding is not None:
                yield queue_finding
        file = sqlite_file(url)
        disk_finding = database.check_disk(self.host, file, at) if file is not None else None
        if disk_finding is not None:
            yield disk_finding
        yield from delivery.check_silences(self._silences(), now=utcnow(), option=self.option)
        listen_finding = web.check_listen_address(self.config, locations.of("web", "listen"))
        if listen_finding is not None:
            yield listen_finding
        yield from web.check_access(self.config, locations.of("web", "token"))
        yield from secret_files.check_secret_files(secret_files.read_modes(secret_files.secret_files(self.config)))

    async def _target_apart(
        self, target: TargetConfig, row: int, locations: SettingLocations
    ) -> AsyncIterator[Finding]:
        """The findings of one target. An error that nobody foresaw is a finding, too: the next target is examined."""
        try:
            async for finding in self._target(target, row, locations):
                yield finding
        except Exception as error:  # noqa: BLE001  # a defect in one target's examination is that target's alone
            message = f"it can't be examined ({crash_text(error)}): report this."
            yield Finding(part="target", level=Level.PROBLEM, message=message)

    async def _target(self, target: TargetConfig, row: int, locations: SettingLocations) -> AsyncIterator[Finding]:
        try:
            provider = build_provider(target)
        except ConfigError as error:
            for problem in error.problems:
                yield Finding(part="provider", level=Level.PROBLEM, message=with_full_stop(problem), exit_code=USAGE)
            return
        sample = LogSample()
        try:
            sample, facts = self._sample(target)
            at, now, hidden = locations.of("targets", row, "sync_log"), utcnow(), facts.may_hide_rows
            yield check_log(sample, target, at, now=now, hidden=hidden, option=self.option)
            if target.sync_log is not None:
                zone_at = locations.of("targets", row, "sync_log", "timezone")
                zone = check_server_zone(facts, target.sync_log, zone_at, now=now)
                if zone is not None:
                    yield zone
        except MonitorError as error:
            yield log_unreadable(error, target, locations, row)
        if sample.ids:
            id_column = locations.of("targets", row, "sync_log", "id_column") if target.sync_log else None
            yield check_ids(sample, provider, target, id_column)
        for finding in delivery.check_throttles(
            self._inherited_limits(target),
            now=utcnow(),
            at=locations.of("targets", row, "check"),
            last=self._read(lambda conn: run_store.last_snapshot(conn, target.name)),
        ):
            yield finding
        async with self._limits_claimed(target):
            findings = await _api(target, provider, sample, row, locations)
        for finding in findings:
            yield finding
        for finding in (*check_canary(target, locations.of("targets", row, "canary")), *_heartbeat(target)):
            yield finding

    def _messages(self) -> list[Finding]:
        """Undelivered messages, failing channels, and open incidents without a target."""
        now = utcnow()

        def read(conn: Connection) -> list[Finding]:
            recent = undelivered(conn, since=now - _RECENT, target=None)
            known_targets = {target.name for target in self.config.targets}
            open_incidents = incident_store.list_incidents(conn, open_only=True)
            return [
                *delivery.check_notifications(channel_state.load_all(conn), recent, now=now),
                *delivery.check_orphaned_incidents(open_incidents, known_targets),
            ]

        return self._read(read) or []

    def _sample(self, target: TargetConfig) -> tuple[LogSample, LogFacts]:
        """The sample, and what the database says of the log."""
        engine = connect(self.config.database.reveal())
        try:
            app = App(config=self.config, engine=engine)
            return read_sample(app.read_log(target), now=utcnow()), app.describe_log(target)
        finally:
            engine.dispose()

    def _inherited_limits(self, target: TargetConfig) -> LearnedLimits | None:
        return self._read(lambda conn: throttle_store.read(conn, key=throttle_key(target)))

    @asynccontextmanager
    async def _limits_claimed(self, target: TargetConfig) -> AsyncIterator[None]:
        """Workers leave our few requests their part of the credential's limits."""
        if not self.config.fleet.workers:
            yield
            return
        engine = connect(self.config.database.reveal())
        try:
            async with limits_of(self.config).claim(target, engine):
                yield
        finally:
            engine.dispose()

    def _silences(self) -> list[Silence]:
        return self._read(lambda conn: silence_store.list_silences(conn, ending_after=utcnow())) or []

    def _read(self, query: Callable[[Connection], _T]) -> _T | None:
        """The query's result; None if the database can't be read, which has its own finding."""
        engine = connect_read_only(self.config.database.reveal())
        try:
            with reading(engine) as conn:
                return query(conn)
        except StoreError:
            return None
        finally:
            engine.dispose()


async def _api(
    target: TargetConfig, provider: Provider, sample: LogSample, row: int, locations: SettingLocations
) -> Sequence[Finding]:
    ids = tuple(sample.spread(SAMPLE, provider.valid_id))
    answers, clock_offset = await probe_api(target, provider, ids, sample.params)
    return [
        *api_findings(answers, target=target, provider=provider, locations=locations, row=row, sample=ids),
        api_probe.check_clock(clock_offset),
    ]


def _heartbeat(target: TargetConfig) -> Iterator[Finding]:
    if target.heartbeat is not None:
        message = "not tried: its receiver would take the request for a run."
        yield Finding(part="heartbeat", level=Level.NOT_TRIED, message=message)


def _configuration(config: Config) -> Iterator[Finding]:
    source = str(config.source) if config.source else "the environment alone"
    channels = f"{len(config.channels)} channel{'' if len(config.channels) == 1 else 's'}"
    message = f"{source}: {len(config.targets)} target{'' if len(config.targets) == 1 else 's'}, {channels}."
    yield Finding(part="configuration", level=Level.OK, message=message)
    for warning in config.warnings:
        yield Finding(part="configuration", level=Level.WARNING, message=with_full_stop(warning))


def setting_locations(config: Config) -> SettingLocations:
    """The locations of all settings; the file is read again for the line numbers."""
    names = {("targets", row): target.name for row, target in enumerate(config.targets)}
    names |= {("channels", row): channel.name for row, channel in enumerate(config.channels)}
    return SettingLocations(
        origins=config.origins,
        names=names,
        file=config.source.name if config.source else None,
        lines=lines_of(_text(config.source)) if config.source else {},
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""  # it could be read a moment ago; now there are no line numbers
