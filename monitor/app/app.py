"""`App` builds live objects from a configuration and a database. Each part is imported when it is needed."""

import os
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import Engine

from monitor.app.channels import build_channel, fingerprint, send_once
from monitor.app.clients import build_auth, open_client, secret_reader
from monitor.config import ChannelConfig, Config, SyncLogConfig, TargetConfig
from monitor.config.rules import build_routes, rules_for_target
from monitor.config.slos import objectives_of
from monitor.database.schema import ensure
from monitor.errors import ConfigError, StoreError
from monitor.model import Cause, SyncLogEntry
from monitor.model.http import CallResult, Request
from monitor.notifications.routing import LOG_CHANNEL, route
from monitor.notifications.texts import channel_target
from monitor.providers import Provider, ProviderSettings, has_uuid_ids, is_list_only, request_for
from monitor.providers.registry import GENERIC, is_described, provider_for
from monitor.runs.heartbeat import Heartbeat

_HEARTBEAT_ATTEMPTS = 2


def build_heartbeat(target: TargetConfig) -> Heartbeat | None:
    """The heartbeat of a target's runs, if one is configured."""
    if target.heartbeat is None:
        return None

    async def ask(request: Request, timeout_s: float) -> CallResult:
        return await send_once(request, timeout_s=timeout_s, attempts=_HEARTBEAT_ATTEMPTS)

    return Heartbeat(
        target=target.name, read_url=secret_reader(target.heartbeat), ask=ask, new_rid=lambda: str(uuid4())
    )


def utcnow() -> datetime:
    """The clock for everything that is stored."""
    return datetime.now(UTC)


def holder() -> str:
    """This process's name in leases and claims: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_database(config: Config) -> Engine:
    """Opens the configured database. SQLite is migrated to this program's schema first.

    Raises SchemaError if the schema is newer, or PostgreSQL's is older, or if the queue of workers does not fit;
    StoreError if the database can't be used.
    """
    engine = ensure(config.database.reveal())
    try:
        verify_queue(config, engine)
    except StoreError:
        engine.dispose()
        raise
    return engine


def verify_queue(config: Config, engine: Engine) -> None:
    """Checks that the database has the queue of workers, if there are workers. Raises SchemaError if it does not."""
    if config.fleet.workers:
        from monitor.fleet import queue_schema

        queue_schema.verify(engine)


def build_provider(target: TargetConfig) -> Provider:
    """The provider of a target, with its settings. Raises ConfigError if the settings are not valid for it."""
    return provider_for(target.provider, provider_settings(target))


def provider_settings(target: TargetConfig, *, with_canary: bool = False) -> ProviderSettings:
    """What a target says about its API; runs need nothing of the canary's requests."""
    return ProviderSettings(
        target=target.name,
        base_url=target.base_url,
        publisher_id=target.publisher_id,
        params=target.params,
        row_params=_row_params(target),
        statuses={str(state): names for state, names in target.statuses.items()},
        item_max_bytes=target.check.item_max_mb << 20,
        list_max_bytes=target.check.list_max_mb << 20,
        options=_description(target, with_canary=with_canary) if is_described(target.provider) else target.options,
    )


def _row_params(target: TargetConfig) -> tuple[str, ...]:
    return tuple(target.sync_log.param_columns) if target.sync_log else ()


def _description(target: TargetConfig, *, with_canary: bool = False) -> dict[str, object]:
    """How the API is asked and read, as JSON values, without what is not set."""
    description: dict[str, object] = {"headers": dict(target.headers), "uuid_ids": target.uuid_ids}
    if target.item is not None:
        description["item"] = target.item.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    # one list answers for one value of its parameters
    if target.list_ is not None and not target.list_.placeholders & {*_row_params(target)}:
        description["list"] = target.list_.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if target.errors:
        description["errors"] = [each.model_dump(mode="json", exclude_none=True) for each in target.errors]
    return {**description, **_canary_steps(target)} if with_canary else description


def _canary_steps(target: TargetConfig) -> dict[str, object]:
    """How a document is uploaded, retrieved, deleted and found, as JSON values."""
    given = {"upload": target.upload, "retrieve": target.retrieve, "delete": target.delete}
    steps: dict[str, object] = {
        kind: [each.model_dump(mode="json", exclude_none=True) for each in rules]
        for kind, rules in given.items()
        if rules
    }
    if target.find is not None:
        steps["find"] = target.find.model_dump(mode="json", exclude_none=True)
    return steps


def validate_providers(targets: Iterable[TargetConfig]) -> None:
    """Builds every target's provider and credentials, without network access. Raises ConfigError with every problem."""
    problems: list[str] = []
    for target in targets:
        try:
            build_auth(target, build_provider(target))
            if target.canary is not None or (target.provider == GENERIC and _canary_steps(target)):
                from monitor.app.canaries import build_canary_requests

                build_canary_requests(target)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


if TYPE_CHECKING:  # imported where one is built, so that commands that only read the database start fast
    from monitor.app.throttles import ThrottleRegistry
    from monitor.incidents.channel_failures import ChannelFailures
    from monitor.incidents.evaluate import IncidentEvaluator
    from monitor.incidents.fallback_openings import FallbackOpenings
    from monitor.incidents.observations import ObservationSource
    from monitor.incidents.openings import Router
    from monitor.incidents.silence_expiry import SilenceExpiry
    from monitor.incidents.slo import Objective
    from monitor.notifications.delivery import ConfiguredChannel, Sender
    from monitor.runs.run import Job
    from monitor.synclog import Known, LogFacts, LogPage, LogStart, SyncLogSpec, Watermark


_MIN_RESOLVE_TIMEOUT = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A configuration and a database, and methods that build live objects from them."""

    config: Config
    engine: Engine
    limits: InitVar["ThrottleRegistry | None"] = None
    """Given only by a worker, a dry run and tests."""
    throttles: "ThrottleRegistry" = field(init=False)
    """Of its own, unless they are given; shared with other processes as the configuration says."""
    clock: Callable[[], datetime] = utcnow
    """The clock for decisions and for everything that is stored."""

    def __post_init__(self, limits: "ThrottleRegistry | None") -> None:
        """Whoever sends requests shares the limits of the credentials, so that no caller can forget it."""
        if limits is None:
            from monitor.app.throttles import limits_of

            limits = limits_of(self.config)
        object.__setattr__(self, "throttles", limits)  # the only time

    def job(self, target: TargetConfig, *, scheduled: bool = False) -> "Job":
        """Everything that a run of the target needs. `scheduled`: whether the daemon keeps the schedule.

        If not, runs are only expected by an explicit schedule, which cron or the like keeps.
        """
        from monitor.database import leases
        from monitor.runs.run import Job
        from monitor.runs.strategy import Strategy

        provider = build_provider(target)
        return Job(
            target=target.name,
            environment=self.config.environment,
            engine=self.engine,
            read_pages=lambda ends_s, known, since: self.read_pages(
                target, known, since=since, ends_s=ends_s, provider=provider
            ),
            read_file_state=lambda: _read_file_state(target, provider),
            provider=provider,
            open_client=lambda: open_client(
                target, provider, self.throttles.throttle(target, self.config.targets, self.engine, utcnow=self.clock)
            ),
            evaluator=self._evaluator(target, scheduled=scheduled),
            keep_if_empty=target.sync_log is not None,
            recheck_completed=target.check.recheck_completed != "never",
            log_hides_rows=lambda: self.describe_log(target).may_hide_rows,
            earliest=target.sync_log is not None and target.sync_log.duplicates == "earliest",
            heartbeat=build_heartbeat(target),
            # a list that alone answers is asked whatever the setting
            strategy=Strategy.LIST if is_list_only(provider) else Strategy(target.check.strategy),
            concurrency=target.check.concurrency,
            deadline=target.check.deadline,
            max_attempts=target.check.max_attempts,
            holder=holder(),
            utcnow=self.clock,
            lease_now=partial(leases.lease_now, utcnow=self.clock),
            log_fields={
                **({"publisher_id": target.publisher_id} if target.publisher_id else {}),
                "endpoint": _endpoint(target, provider),
            },
        )

    def describe_log(self, target: TargetConfig) -> "LogFacts":
        """What the database says of a target's sync log. Raises SyncLogError if it can't be read."""
        from monitor.synclog import LogFacts, describe

        return LogFacts() if target.sync_log is None else describe(_spec(target.sync_log))

    def read_log(self, target: TargetConfig, *, ends_s: float | None = None) -> Iterator[Sequence[SyncLogEntry]]:
        """A target's sync log in batches; a statement that still runs at `ends_s` (monotonic) is interrupted.

        Raises SyncLogError, or StoreError (built-in log), if it can't be read.
        """
        if target.sync_log is not None:
            from monitor.synclog import read

            uuid_ids = has_uuid_ids(build_provider(target))
            yield from read(_spec(target.sync_log, uuid_ids=uuid_ids), ends_s=ends_s)
            return
        from monitor.synclog import builtin as tracked

        with self._own_log() as engine:
            yield from tracked.read(engine, target=target.name)

    def read_pages(
        self,
        target: TargetConfig,
        known: "Known | None",
        *,
        since: "Watermark | None" = None,
        provider: Provider | None = None,
        ends_s: float | None = None,
    ) -> "Iterator[LogPage | LogStart]":
        """A target's sync log in pages, those that are `known` without entries. Otherwise as `read_log`.

        With an `updated_at_column` known pages are not read in which nothing changed since the watermark.
        """
        if target.sync_log is not None:
            from monitor.synclog import read_pages

            spec = _spec(target.sync_log, uuid_ids=has_uuid_ids(provider or build_provider(target)))
            merged_as = (target.sync_log.duplicates,)
            yield from read_pages(spec, known=known, since=since, merged_as=merged_as, ends_s=ends_s)
            return
        from monitor.synclog import builtin as tracked

        with self._own_log() as engine:
            yield from tracked.read_pages(engine, target=target.name, known=known)

    @contextmanager
    def _own_log(self) -> Iterator[Engine]:
        """The configured database, read-only, even if the run uses a scratch one (ADR 14)."""
        from monitor.database.engine import connect_read_only

        engine = connect_read_only(self.config.database.reveal())
        try:
            yield engine
        finally:
            engine.dispose()

    def sender(self) -> "Sender":
        """The sender of due messages to the configured channels."""
        from monitor.notifications.channels.log import LogChannel
        from monitor.notifications.delivery import ConfiguredChannel, Sender

        log = ConfiguredChannel(channel=LogChannel(), fingerprint=lambda: LOG_CHANNEL, is_log=True)
        channels = {LOG_CHANNEL: log}
        resolve_timeout = self._resolve_timeout()
        for each in self.config.channels:
            channels[each.name] = _configured_channel(each, resolve_timeout)
        silence_expiry, fallback_openings = self.silence_expiry(), self._fallback_openings()
        return Sender(
            self.engine,
            channels,
            incident_hooks=self._incident_hooks(),
            holder=holder(),
            utcnow=self.clock,
            rand=random.random,
            before_claim=[
                lambda conn, now: silence_expiry.notify_expired(conn, now=now),
                lambda conn, now: fallback_openings.notify(conn, now=now),
            ],
            public_url=self.config.web.public_url,
        )

    def _resolve_timeout(self) -> timedelta:
        """When Alertmanager resolves an alert that is not sent again: later than the next run can send it."""
        now, config = self.clock(), self.config
        overdue = (config.schedule_for(each).due_times(each.name).overdue_at(now) for each in config.targets)
        return _MIN_RESOLVE_TIMEOUT + max((each - now for each in overdue if each is not None), default=timedelta(0))

    def silence_expiry(self) -> "SilenceExpiry":
        """Sends silenced notifications when their silence ends."""
        from monitor.incidents.silence_expiry import SilenceExpiry

        channel_router = self._incident_hooks().router
        return SilenceExpiry(environment=self.config.environment, route=self._router(), channel_router=channel_router)

    def _fallback_openings(self) -> "FallbackOpenings":
        from monitor.incidents.fallback_openings import FallbackOpenings

        channel_router = self._incident_hooks().router
        return FallbackOpenings(
            environment=self.config.environment, route=self._router(), channel_router=channel_router
        )

    def _incident_hooks(self) -> "ChannelFailures":
        from monitor.incidents.channel_failures import ChannelFailures
        from monitor.incidents.rulebook import DEFAULT_RULES

        config, cause, names = self.config, Cause.CHANNEL_FAILING, [channel.name for channel in self.config.channels]
        return ChannelFailures(
            environment=config.environment,
            rule=DEFAULT_RULES[cause],
            rules={name: rules_for_target(config.rules, target=channel_target(name))[cause] for name in names},
            channels=names,
            route=self._router(),
            public_url=config.web.public_url,
        )

    def _router(self) -> "Router":
        routes = build_routes(self.config.routes)
        channels = [channel.name for channel in self.config.channels]
        return lambda attributes: route(attributes, routes, channels)

    def _evaluator(self, target: TargetConfig, *, scheduled: bool) -> "IncidentEvaluator":
        from monitor.incidents.evaluate import IncidentEvaluator
        from monitor.incidents.members import AgeLimits
        from monitor.incidents.slow_indexing import SlowIndexing
        from monitor.waits.timeouts import PollingTimeouts

        config, schedule = self.config, self.config.schedule_for(target)
        return IncidentEvaluator(
            target=target.name,
            environment=config.environment,
            rules=rules_for_target(config.rules, target=target.name),
            age_limits=AgeLimits(stuck_after=target.check.stuck_after, missing_after=target.check.missing_after),
            route=self._router(),
            group_wait=config.group_wait if scheduled else timedelta(0),
            due_times=schedule.due_times(target.name, daemon_managed=scheduled)
            if scheduled or schedule.explicit
            else None,
            sources=(
                PollingTimeouts(),
                SlowIndexing(slow_after=target.check.slow_after),
                *_objective_sources(objectives_of(config.slos, target.name)),
                *_canary_sources(target),
            ),
        )


def _objective_sources(objectives: "Sequence[Objective]") -> "Iterator[ObservationSource]":
    """What says whether error budgets burn; nothing is imported for it without objectives."""
    if objectives:
        from monitor.incidents.slo_source import SloSource

        yield SloSource(objectives=objectives)


def _canary_sources(target: TargetConfig) -> "Iterator[ObservationSource]":
    """What canaries say; nothing is imported for it without them."""
    if target.canary is not None:
        from monitor.runs.canary.observations import CanaryObservations

        yield CanaryObservations()


def _endpoint(target: TargetConfig, provider: Provider) -> str:
    """The template of a target's requests."""
    if is_list_only(provider):
        request = provider.list_request()
        return request.template if request else ""
    return request_for(provider, "id", dict.fromkeys(_row_params(target), "value")).template


def _spec(log: SyncLogConfig, *, uuid_ids: bool = False) -> "SyncLogSpec":
    from monitor.synclog import SyncLogSpec

    # how the rows are read; what is made of duplicates is the run's
    given = log.model_dump(exclude={"url", "preset", "duplicates"})
    return SyncLogSpec(url=log.url.reveal(), uuid_ids=uuid_ids, **given)


def _read_file_state(target: TargetConfig, provider: Provider) -> str | None:
    from monitor.synclog import read_file_state

    log = target.sync_log
    if log is None:
        return None
    return read_file_state(_spec(log, uuid_ids=has_uuid_ids(provider)), merged_as=(log.duplicates,))


def _configured_channel(config: ChannelConfig, resolve_timeout: timedelta) -> "ConfiguredChannel":
    from monitor.notifications.delivery import ConfiguredChannel

    return ConfiguredChannel(
        channel=build_channel(config, resolve_timeout=resolve_timeout),
        fingerprint=lambda: fingerprint(config),
        include_api_message=config.include_api_message,
    )
