"""A configuration and a database, and the live parts that are made from them."""

import os
import random
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import Engine

from monitor.casebook import Router
from monitor.channels import Channel
from monitor.channels.log import LogChannel
from monitor.check import Strategy
from monitor.config import Config, RouteConfig, RuleOverride, Schedule, SyncLogConfig, Target
from monitor.delivery import Sender
from monitor.health.punctuality import DueTimes
from monitor.incidents.routing import LOG_CHANNEL, Route, route
from monitor.incidents.rulebook import DEFAULT_RULES, Rule
from monitor.judgement import Judge
from monitor.model import Cause, LogEntry
from monitor.reachability import Reachability
from monitor.run import Job
from monitor.store import tracked
from monitor.store.engine import connect_read_only
from monitor.store.members import Patience
from monitor.store.schema import ensure
from monitor.synclog import SyncLogSpec
from monitor.synclog import read as read_log
from monitor.wiring.channels import channel_of
from monitor.wiring.clients import open_client
from monitor.wiring.heartbeats import heartbeat_of
from monitor.wiring.providers import provider_of
from monitor.wiring.sharing import Sharing

__all__ = ["App", "due_times", "holder", "open_store", "rules_in_force", "utcnow"]


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
    sharing: Sharing = field(default_factory=Sharing)

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
            open_client=lambda: open_client(
                target, provider, self.sharing.throttle(target, self.config.targets, self.engine)
            ),
            judge=self._judge(target, scheduled=scheduled),
            heartbeat=heartbeat_of(target),
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
        config, schedule = self.config, self.config.schedule_of(target)
        return Judge(
            target=target.name,
            environment=config.environment,
            rules=rules_in_force(config.rules),
            patience=Patience(stuck_after=target.check.stuck_after, missing_after=target.check.missing_after),
            route=self._router(),
            due_times=due_times(schedule) if scheduled or schedule.explicit else None,
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


def due_times(schedule: Schedule) -> DueTimes:
    """When a schedule's runs are due."""
    return schedule.due_times()


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
