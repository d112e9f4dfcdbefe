"""Tries each part for real and says what is wrong. Nothing stops at a failure; what depends on one is not tried.

It changes no row of any database and no incident. A SQLite database that is missing is created, as `check` would.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from monitor.app import App, build_provider, utcnow
from monitor.app.throttles import throttle_key
from monitor.cli.doctor import api_probe as clock
from monitor.cli.doctor import database as disk
from monitor.cli.doctor import delivery as holds
from monitor.cli.doctor import delivery as hushes
from monitor.cli.doctor import delivery as messages
from monitor.cli.doctor import delivery as routes
from monitor.cli.doctor import http as web
from monitor.cli.doctor import secret_files as readers
from monitor.cli.doctor.api_findings import findings
from monitor.cli.doctor.api_probe import interview
from monitor.cli.doctor.channels import look_at_channel, send_test, telling_setting
from monitor.cli.doctor.database import Surroundings, sqlite_file, try_database
from monitor.cli.doctor.findings import Finding, Level, ended
from monitor.cli.doctor.locations import Places, lines_of
from monitor.cli.doctor.synclog import SAMPLE, LogSample, judge_ids, judge_log, take_sample, unreadable
from monitor.cli.exit_codes import USAGE
from monitor.config import Config, TargetConfig
from monitor.database.engine import connect, connect_read_only, reading
from monitor.errors import ConfigError, MonitorError, StoreError
from monitor.incidents import silence_store as silences
from monitor.incidents import store as incidents
from monitor.model import LearnedLimits, Silence
from monitor.notifications import channel_state as channels
from monitor.providers import Provider
from monitor.reports.notification_queries import undelivered
from monitor.runs import throttle_store as throttles

__all__ = ["Doctor", "places_of"]

_LATELY = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor:
    """Examines what a configuration describes."""

    config: Config
    surroundings: Surroundings
    option: str = ""
    """What a command needs to read the same configuration, such as ` --config other.toml`."""

    async def examine(self, targets: Sequence[str], *, test_channels: bool) -> AsyncIterator[Finding]:
        """Finding after finding: configuration, database, disk, secret files, targets, channels, routes.

        Args:
            targets: names of those to try.
            test_channels: send a test message on each channel.
        """
        places = places_of(self.config)
        for finding in self._ground(places):
            yield finding
        for row, target in enumerate(self.config.targets):
            if target.name in targets:
                async for finding in self._target(target, row, places):
                    yield replace(finding, about=f"target {target.name}")
        for row, channel in enumerate(self.config.channels):
            at = places.of("channels", row, telling_setting(channel))
            tried = await send_test(channel, self.config, at) if test_channels else look_at_channel(channel, at)
            yield replace(tried, about="channels")
        for finding in (*self._messages(), *routes.judge_routes(self.config, places)):
            yield replace(finding, about="channels")

    def _ground(self, places: Places) -> Iterator[Finding]:
        """What concerns all targets."""
        yield from _configuration(self.config)
        url, at = self.config.database.reveal(), places.of("database")
        yield try_database(url, at, option=self.option)
        file = sqlite_file(url)
        loss = disk.judge(self.surroundings, file, at) if file is not None else None
        if loss is not None:
            yield loss
        yield from hushes.judge_silences(self._silences(), now=utcnow(), option=self.option)
        unheard = web.judge(self.config, places.of("web", "listen"))
        if unheard is not None:
            yield unheard
        yield from readers.judge(readers.look_at(readers.secret_files(self.config)))

    async def _target(self, target: TargetConfig, row: int, places: Places) -> AsyncIterator[Finding]:
        try:
            provider = build_provider(target)
        except ConfigError as error:
            for problem in error.problems:
                yield Finding(part="provider", level=Level.PROBLEM, says=ended(problem), exit_code=USAGE)
            return
        sample = LogSample()
        try:
            sample = self._sample(target)
            yield judge_log(sample, target, places.of("targets", row, "sync_log"), option=self.option)
        except MonitorError as error:
            yield unreadable(error, target, places, row)
        if sample.ids:
            of_column = places.of("targets", row, "sync_log", "id_column") if target.sync_log else None
            yield judge_ids(sample, provider, of_column)
        for finding in holds.judge_holds(self._learned(target), now=utcnow(), at=places.of("targets", row, "check")):
            yield finding
        async for finding in _api(target, provider, sample, row, places):
            yield finding
        if target.heartbeat is not None:
            says = "not tried: whoever listens there would take it for a run."
            yield Finding(part="heartbeat", level=Level.NOT_TRIED, says=says)

    def _messages(self) -> list[Finding]:
        """What did not reach anybody, as far as the database can be read."""
        engine, now = connect_read_only(self.config.database.reveal()), utcnow()
        try:
            with reading(engine) as conn:
                lately = undelivered(conn, since=now - _LATELY, target=None)
                known = {target.name for target in self.config.targets}
                left = incidents.list_incidents(conn, open_only=True)
                return [
                    *messages.judge_messages(channels.load_all(conn), lately, now=now),
                    *messages.orphaned(left, known),
                ]
        except StoreError:
            return []  # what is wrong with the database has been told
        finally:
            engine.dispose()

    def _sample(self, target: TargetConfig) -> LogSample:
        engine = connect(self.config.database.reveal())
        try:
            return take_sample(App(config=self.config, engine=engine).read_log(target), now=utcnow())
        finally:
            engine.dispose()

    def _learned(self, target: TargetConfig) -> LearnedLimits | None:
        engine = connect_read_only(self.config.database.reveal())
        try:
            with reading(engine) as conn:
                return throttles.read(conn, key=throttle_key(target))
        except StoreError:
            return None  # what is wrong with the database has been told
        finally:
            engine.dispose()

    def _silences(self) -> list[Silence]:
        engine = connect_read_only(self.config.database.reveal())
        try:
            with reading(engine) as conn:
                return silences.list_silences(conn, ending_after=utcnow())
        except StoreError:
            return []  # what is wrong with the database has been told
        finally:
            engine.dispose()


async def _api(
    target: TargetConfig, provider: Provider, sample: LogSample, row: int, places: Places
) -> AsyncIterator[Finding]:
    ids = tuple(sample.some(SAMPLE, provider.valid_id))
    heard, ahead = await interview(target, provider, ids)
    for finding in findings(heard, target=target, provider=provider, places=places, row=row, sample=ids):
        yield finding
    yield clock.judge(ahead)


def _configuration(config: Config) -> Iterator[Finding]:
    source = str(config.source) if config.source else "the environment alone"
    channels = f"{len(config.channels)} channel{'' if len(config.channels) == 1 else 's'}"
    says = f"{source}: {len(config.targets)} target{'' if len(config.targets) == 1 else 's'}, {channels}."
    yield Finding(part="configuration", level=Level.OK, says=says)
    for warning in config.warnings:
        yield Finding(part="configuration", level=Level.WARNING, says=ended(warning))


def places_of(config: Config) -> Places:
    """Where the settings of a configuration stand; its file is read once more for the line numbers."""
    named = {("targets", row): target.name for row, target in enumerate(config.targets)}
    named |= {("channels", row): channel.name for row, channel in enumerate(config.channels)}
    return Places(
        origins=config.origins,
        names=named,
        file=config.source.name if config.source else None,
        lines=lines_of(_text(config.source)) if config.source else {},
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""  # it could be read a moment ago; without it there are no line numbers
