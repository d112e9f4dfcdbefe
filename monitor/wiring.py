"""Configuration to live objects: the only place where parts are put together. It decides nothing."""

import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from monitor.casebook import Router
from monitor.channels import Channel
from monitor.channels.log import LogChannel
from monitor.channels.slack import SlackChannel
from monitor.channels.webhook import WebhookChannel
from monitor.check import Strategy
from monitor.client.auth import ApiKey, Auth, ClientCredentials
from monitor.client.client import Client
from monitor.client.limits import Breaker
from monitor.client.wire import HttpxWire
from monitor.config import (
    ApiKeyAuth,
    ChannelConfig,
    Config,
    RouteConfig,
    RuleOverride,
    Schedule,
    Secret,
    SyncLogConfig,
    Target,
)
from monitor.delivery import Sender
from monitor.errors import ConfigError
from monitor.exchange import Answer, Request
from monitor.health.punctuality import DueTimes
from monitor.incidents.routing import LOG_CHANNEL, Route, route
from monitor.incidents.rulebook import DEFAULT_RULES, Rule
from monitor.judgement import Judge
from monitor.log import masked, register_secret
from monitor.model import Cause, LogEntry
from monitor.providers import Provider, ProviderSettings
from monitor.providers.found import provider_for
from monitor.reachability import Reachability
from monitor.run import Job
from monitor.store import tracked
from monitor.store.engine import connect_read_only
from monitor.store.members import Patience
from monitor.store.schema import ensure
from monitor.synclog import SyncLogSpec
from monitor.synclog import read as read_log

__all__ = ["App", "channel_of", "holder", "open_client", "open_store", "provider_of", "try_providers", "utcnow"]

CHANNEL_TIMEOUT_S = 15.0
"""Wall-clock seconds for one attempt to reach a channel."""


def utcnow() -> datetime:
    """The clock of everything that is stored."""
    return datetime.now(UTC)


def holder() -> str:
    """Who this process is in leases and claims: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_store(config: Config) -> Engine:
    """Opens the configured database at this program's schema; an embedded SQLite is brought there first.

    Raises:
        SchemaError: the schema is newer, or a server's is older.
        StoreError: the database can't be used.
    """
    return ensure(config.database.reveal())


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A configuration and a database, from which the live parts are made."""

    config: Config
    engine: Engine

    def job(self, target: Target, *, scheduled: bool = False) -> Job:
        """Everything that runs over one target need.

        Args:
            target: one of the configuration's.
            scheduled: whether its schedule is kept here, by the daemon; otherwise only one that somebody wrote down
                is expected of whoever keeps it, such as cron.
        """
        provider = provider_of(target)
        return Job(
            target=target.name,
            environment=self.config.environment,
            engine=self.engine,
            read_log=lambda: self.read_log(target),
            provider=provider,
            open_client=lambda: open_client(target, provider),
            judge=self._judge(target, scheduled=scheduled),
            strategy=Strategy(target.check.strategy),
            concurrency=target.check.concurrency,
            deadline=target.check.deadline,
            holder=holder(),
            utcnow=utcnow,
            log_fields={
                **({"publisher_id": target.publisher_id} if target.publisher_id else {}),
                "endpoint": provider.item_request("id").template,
            },
        )

    def read_log(self, target: Target) -> Iterator[Sequence[LogEntry]]:
        """The sync log of a target in batches: the pipeline's own, or the built-in one.

        Raises:
            SyncLogError: the pipeline's log can't be read.
            StoreError: the built-in log can't be read.
        """
        if target.sync_log is not None:
            yield from read_log(_sync_log(target.sync_log))
            return
        # of the configured database, also when the run itself works on a scratch one (ADR 14)
        engine = connect_read_only(self.config.database.reveal())
        try:
            yield from tracked.read(engine, target=target.name)
        finally:
            engine.dispose()

    def sender(self) -> Sender:
        """Delivers what is due to the configured channels."""
        channels: dict[str, Channel] = {LOG_CHANNEL: LogChannel()}
        channels.update({channel.name: channel_of(channel) for channel in self.config.channels})
        reach = Reachability(
            environment=self.config.environment,
            rule=rules_in_force(self.config.rules)[Cause.CHANNEL_FAILING],
            channels=[channel.name for channel in self.config.channels],
            route=self._router(),
        )
        return Sender(self.engine, channels, reach=reach, holder=holder(), utcnow=utcnow, rand=random.random)

    def _router(self) -> Router:
        routes = [_route(each) for each in self.config.routes]
        channels = [channel.name for channel in self.config.channels]
        return lambda attributes: route(attributes, routes, channels)

    def _judge(self, target: Target, *, scheduled: bool) -> Judge:
        config, schedule = self.config, target.schedule or self.config.schedule
        return Judge(
            target=target.name,
            environment=config.environment,
            rules=rules_in_force(config.rules),
            patience=Patience(stuck_after=target.check.stuck_after, missing_after=target.check.missing_after),
            route=self._router(),
            due_times=_due_times(schedule) if scheduled or schedule.explicit else None,
        )


def rules_in_force(overrides: tuple[RuleOverride, ...]) -> Mapping[Cause, Rule]:
    """The built-in rules with the configured differences laid over them, later ones last."""
    rules = dict(DEFAULT_RULES)
    for override in overrides:
        given = override.model_dump(exclude={"cause"}, exclude_none=True)
        rule = replace(rules[override.cause], **given)
        # `runs = 3` alone means three in a row, whatever the built-in `of` is.
        rules[override.cause] = replace(rule, of=max(rule.of, rule.runs))
    return rules


def _due_times(schedule: Schedule) -> DueTimes:
    return DueTimes(every=schedule.every, cron=schedule.cron, zone=ZoneInfo(schedule.timezone))


def provider_of(target: Target) -> Provider:
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
        options=_options(target),
    )
    return provider_for(target.provider, settings)


def _options(target: Target) -> Mapping[str, object]:
    if target.provider != "generic":
        return target.options
    return {
        "item": target.item.model_dump() if target.item else None,
        "list": target.list_.model_dump() if target.list_ else None,
        "headers": dict(target.headers),
    }


def try_providers(targets: Iterable[Target]) -> None:
    """Sets every target's provider up once, so that what is wrong with one is said before any network or write.

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    for target in targets:
        try:
            provider_of(target)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _route(config: RouteConfig) -> Route:
    return Route(
        match={str(name): patterns for name, patterns in config.match.items()},
        channels=config.channels,
        goes_on=config.continue_,
    )


def _sync_log(log: SyncLogConfig) -> SyncLogSpec:
    return SyncLogSpec(
        url=log.url.reveal(),
        table=log.table,
        id_column=log.id_column,
        submitted_at_column=log.submitted_at_column,
        group_column=log.group_column,
        timezone=log.timezone,
    )


@asynccontextmanager
async def open_client(target: Target, provider: Provider) -> AsyncIterator[Client]:
    """A resilient client for one run over a target; its connections are closed at the end."""
    wire = HttpxWire(base_url=target.base_url)
    try:
        yield Client(
            wire=wire,
            auth=_auth(target, provider),
            breaker=Breaker(),
            attempt_timeout_s=target.check.attempt_timeout.total_seconds(),
            max_attempts=target.check.max_attempts,
            mask=masked,
        )
    finally:
        await wire.close()


def _auth(target: Target, provider: Provider) -> Auth | None:
    auth = target.auth
    if auth is None:
        return None
    if isinstance(auth, ApiKeyAuth):
        return ApiKey(_reader(auth.api_key), header=auth.header.lower(), scheme=auth.scheme)
    token_path = auth.token_path or provider.token_path
    if token_path is None:
        raise ConfigError([f"targets.{target.name}.auth: {provider.name} has no token endpoint; give an api_key"])
    return ClientCredentials(
        token_path=token_path,
        client_id=auth.client_id,
        read_secret=_reader(auth.client_secret),
        scope=provider.token_scope if auth.scope is None else auth.scope,
    )


def _reader(secret: Secret) -> Callable[[], str]:
    """Reads a secret at the time of use; a rotated one is masked in logs from then on, like the first."""

    def read() -> str:
        value = secret.reveal()
        register_secret(value)
        return value

    return read


def channel_of(config: ChannelConfig) -> Channel:
    """The channel that a configuration describes."""
    if config.url is None:
        return LogChannel()
    make = SlackChannel if config.type == "slack" else WebhookChannel
    return make(_reader(config.url), ask_once)


async def ask_once(request: Request, *, timeout_s: float = CHANNEL_TIMEOUT_S) -> Answer:
    """Sends one request to where its absolute URL says, once, without credentials of any target.

    Raises:
        ValueError: the URL can't be taken apart.
    """
    url = urlsplit(request.path)
    wire = HttpxWire(base_url=f"{url.scheme}://{url.netloc}")
    try:
        client = Client(wire=wire, mask=masked, attempt_timeout_s=timeout_s, max_attempts=1)
        return await client.ask(request, deadline_s=time.monotonic() + timeout_s)
    finally:
        await wire.close()
