"""A configuration and a database, and the live parts that are made from them, each loaded when it is asked for."""

import os
import random
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from sqlalchemy import Engine

from monitor.app.channels import send_once
from monitor.app.clients import build_auth, secret_reader
from monitor.config import ChannelConfig, Config, RuleConfig, ScheduleConfig, SyncLogConfig, TargetConfig
from monitor.database.schema import ensure
from monitor.errors import ConfigError
from monitor.incidents.rulebook import EffectiveRule, Override, Rule, effective_rules
from monitor.model import Cause, SyncLogEntry
from monitor.model.http import CallResult, Request
from monitor.model.schedule import DueTimes
from monitor.notifications.routing import LOG_CHANNEL, Route, route
from monitor.notifications.texts import channel_target
from monitor.providers import Provider, ProviderSettings
from monitor.providers.registry import provider_for
from monitor.runs.heartbeat import Heartbeat

_HEARTBEAT_ATTEMPTS = 2


def build_heartbeat(target: TargetConfig) -> Heartbeat | None:
    """The switch that is told of a target's runs; None when there is none."""
    if target.heartbeat is None:
        return None
    return Heartbeat(
        target=target.name, read_url=secret_reader(target.heartbeat), ask=_send_heartbeat, new_rid=lambda: str(uuid4())
    )


async def _send_heartbeat(request: Request, timeout_s: float) -> CallResult:
    return await send_once(request, timeout_s=timeout_s, attempts=_HEARTBEAT_ATTEMPTS)


def utcnow() -> datetime:
    """The clock of everything that is stored."""
    return datetime.now(UTC)


def holder() -> str:
    """Who this process is in leases and claims: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_database(config: Config) -> Engine:
    """Opens the configured database at this program's schema; an embedded SQLite is brought there first.

    Raises:
        SchemaError: the schema is newer, or a server's is older.
        StoreError: the database can't be used.
    """
    return ensure(config.database.reveal())


def build_provider(target: TargetConfig) -> Provider:
    """The provider of a target, set up as its configuration says.

    Raises:
        ConfigError: it can't work with these settings.
    """
    settings = ProviderSettings(
        target=target.name,
        base_url=target.base_url,
        publisher_id=target.publisher_id,
        statuses={str(state): names for state, names in target.statuses.items()},
        list_max_bytes=target.check.list_max_mb << 20,
        options=_provider_options(target),
    )
    return provider_for(target.provider, settings)


def _provider_options(target: TargetConfig) -> Mapping[str, object]:
    if target.provider != "generic":
        return target.options
    return {
        "item": target.item.model_dump() if target.item else None,
        "list": target.list_.model_dump() if target.list_ else None,
        "headers": dict(target.headers),
    }


def validate_providers(targets: Iterable[TargetConfig]) -> None:
    """Sets every target's provider up once, so that what is wrong with one is said before any network or write.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    for target in targets:
        try:
            build_auth(target, build_provider(target))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def rules_for_target(overrides: Sequence[RuleConfig], *, target: str) -> Mapping[Cause, Rule]:
    """The rules of one target: the built-in ones with the configured differences laid over them, later ones last.

    Args:
        overrides: the tables `[[rules]]`, in their order.
        target: its name; `channel:NAME` for a channel, whose rule is the one of `channel_failing`.
    """
    return {cause: found.rule for cause, found in rules_with_sources(overrides, target=target).items()}


def rules_with_sources(overrides: Sequence[RuleConfig], *, target: str) -> Mapping[Cause, EffectiveRule]:
    """The same, each with where its values came from."""
    return effective_rules(build_overrides(overrides), target)


def build_overrides(rules: Sequence[RuleConfig]) -> tuple[Override, ...]:
    """The tables `[[rules]]`, in their order."""
    return tuple(each.to_override(position) for position, each in enumerate(rules))


def build_routes(config: Config) -> tuple[Route, ...]:
    """The routes, in their order."""
    return tuple(each.to_route() for each in config.routes)


if TYPE_CHECKING:  # loaded by what makes one of them: whoever only reads the database needs none
    from monitor.app.throttles import ThrottleRegistry
    from monitor.incidents.channel_failures import ChannelFailures
    from monitor.incidents.evaluate import IncidentEvaluator
    from monitor.incidents.recorder import Router
    from monitor.incidents.silence_expiry import SilenceExpiry
    from monitor.notifications.delivery import ConfiguredChannel, Sender
    from monitor.runs.run import Job
    from monitor.synclog import SyncLogSpec


_MIN_RESOLVE_TIMEOUT = timedelta(minutes=15)


def _new_throttle_registry() -> "ThrottleRegistry":
    from monitor.app.throttles import ThrottleRegistry

    return ThrottleRegistry()


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A configuration and a database, from which the live parts are made."""

    config: Config
    engine: Engine
    throttles: "ThrottleRegistry" = field(default_factory=_new_throttle_registry)
    clock: Callable[[], datetime] = utcnow
    """Of all that is decided and stored."""

    def job(self, target: TargetConfig, *, scheduled: bool = False) -> "Job":
        """Everything that runs over one target need.

        Args:
            target: one of the configuration's.
            scheduled: whether its schedule is kept here, by the daemon; otherwise only one that somebody wrote down
                is expected of whoever keeps it, such as cron.
        """
        from monitor.app.clients import open_client
        from monitor.database import leases
        from monitor.runs.run import Job
        from monitor.runs.strategy import Strategy

        provider = build_provider(target)
        return Job(
            target=target.name,
            environment=self.config.environment,
            engine=self.engine,
            read_log=lambda: self.read_log(target),
            provider=provider,
            open_client=lambda: open_client(
                target, provider, self.throttles.throttle(target, self.config.targets, self.engine, utcnow=self.clock)
            ),
            evaluator=self._evaluator(target, scheduled=scheduled),
            heartbeat=build_heartbeat(target),
            strategy=Strategy(target.check.strategy),
            concurrency=target.check.concurrency,
            deadline=target.check.deadline,
            holder=holder(),
            utcnow=self.clock,
            lease_now=partial(leases.lease_now, utcnow=self.clock),
            log_fields={
                **({"publisher_id": target.publisher_id} if target.publisher_id else {}),
                "endpoint": provider.item_request("id").template,
            },
        )

    def read_log(self, target: TargetConfig) -> Iterator[Sequence[SyncLogEntry]]:
        """The sync log of a target in batches: the pipeline's own, or the built-in one.

        Raises:
            SyncLogError: the pipeline's log can't be read.
            StoreError: the built-in log can't be read.
        """
        if target.sync_log is not None:
            from monitor.synclog import read as read_log

            yield from read_log(_sync_log_spec(target.sync_log))
            return
        from monitor.database.engine import connect_read_only
        from monitor.synclog import builtin as tracked

        # of the configured database, also when the run itself works on a scratch one (ADR 14)
        engine = connect_read_only(self.config.database.reveal())
        try:
            yield from tracked.read(engine, target=target.name)
        finally:
            engine.dispose()

    def sender(self) -> "Sender":
        """Delivers what is due to the configured channels."""
        from monitor.notifications.channels.log import LogChannel
        from monitor.notifications.delivery import ConfiguredChannel, Sender

        channels = {LOG_CHANNEL: ConfiguredChannel(channel=LogChannel(), fingerprint=lambda: LOG_CHANNEL)}
        resolve_timeout = self._resolve_timeout()
        channels.update(
            {channel.name: _configured_channel(channel, resolve_timeout) for channel in self.config.channels}
        )
        silence_expiry = self.silence_expiry()
        return Sender(
            self.engine,
            channels,
            incident_hooks=self._incident_hooks(),
            holder=holder(),
            utcnow=self.clock,
            rand=random.random,
            before_claim=[lambda conn, now: silence_expiry.notify_expired(conn, now=now)],
        )

    def _resolve_timeout(self) -> timedelta:
        """How long an alert lasts that is not told again: longer than it can take until it is, in every mode."""
        now, config = self.clock(), self.config
        overdue = (due_times(config.schedule_for(each), each.name).overdue_at(now) for each in config.targets)
        return _MIN_RESOLVE_TIMEOUT + max((each - now for each in overdue if each is not None), default=timedelta(0))

    def silence_expiry(self) -> "SilenceExpiry":
        """Tells what silences kept back, once they end."""
        from monitor.incidents.silence_expiry import SilenceExpiry

        channel_router = self._incident_hooks().router
        return SilenceExpiry(environment=self.config.environment, route=self._router(), channel_router=channel_router)

    def _incident_hooks(self) -> "ChannelFailures":
        from monitor.incidents.channel_failures import ChannelFailures
        from monitor.incidents.rulebook import DEFAULT_RULES

        names = [channel.name for channel in self.config.channels]
        rules = {name: rules_for_target(self.config.rules, target=channel_target(name)) for name in names}
        return ChannelFailures(
            environment=self.config.environment,
            rule=DEFAULT_RULES[Cause.CHANNEL_FAILING],
            rules={name: rules[name][Cause.CHANNEL_FAILING] for name in names},
            channels=names,
            route=self._router(),
        )

    def _router(self) -> "Router":
        routes = build_routes(self.config)
        channels = [channel.name for channel in self.config.channels]
        return lambda attributes: route(attributes, routes, channels)

    def _evaluator(self, target: TargetConfig, *, scheduled: bool) -> "IncidentEvaluator":
        from monitor.incidents.evaluate import IncidentEvaluator
        from monitor.incidents.members import AgeLimits

        config, schedule = self.config, self.config.schedule_for(target)
        return IncidentEvaluator(
            target=target.name,
            environment=config.environment,
            rules=rules_for_target(config.rules, target=target.name),
            age_limits=AgeLimits(stuck_after=target.check.stuck_after, missing_after=target.check.missing_after),
            route=self._router(),
            group_wait=config.group_wait if scheduled else timedelta(0),
            due_times=due_times(schedule, target.name, daemon_managed=scheduled)
            if scheduled or schedule.explicit
            else None,
        )


def due_times(schedule: ScheduleConfig, target: str, *, daemon_managed: bool = False) -> DueTimes:
    """When a target's runs are due by a schedule, which a daemon keeps or somebody's cron."""
    return schedule.due_times(target, daemon_managed=daemon_managed)


def _configured_channel(config: ChannelConfig, resolve_timeout: timedelta) -> "ConfiguredChannel":
    from monitor.app.channels import build_channel, fingerprint
    from monitor.notifications.delivery import ConfiguredChannel

    return ConfiguredChannel(
        channel=build_channel(config, resolve_timeout=resolve_timeout),
        fingerprint=lambda: fingerprint(config),
        include_api_message=config.include_api_message,
    )


def _sync_log_spec(log: SyncLogConfig) -> "SyncLogSpec":
    from monitor.synclog import SyncLogSpec

    return SyncLogSpec(
        url=log.url.reveal(),
        table=log.table,
        id_column=log.id_column,
        submitted_at_column=log.submitted_at_column,
        group_column=log.group_column,
        timezone=log.timezone,
    )
