"""A configuration and a database, and the live parts that are made from them, each loaded when it is asked for."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from monitor.config import ChannelConfig, Config, Schedule, SyncLogConfig, Target
from monitor.health.punctuality import DueTimes
from monitor.incidents.routing import LOG_CHANNEL, route
from monitor.incidents.words import channel_target
from monitor.model import Cause, LogEntry
from monitor.wiring.process import holder, open_store, utcnow
from monitor.wiring.rules import routes_of, rules_in_force

if TYPE_CHECKING:  # loaded by what makes one of them: whoever only reads the database needs none
    from monitor.casebook import Router
    from monitor.delivery import Outlet, Sender
    from monitor.judgement import Judge
    from monitor.reachability import Reachability
    from monitor.run import Job
    from monitor.silencing import Silencing
    from monitor.synclog import SyncLogSpec
    from monitor.wiring.sharing import Sharing

__all__ = ["App", "due_times", "holder", "open_store", "utcnow"]

_SHORTEST_ALERT = timedelta(minutes=15)


def _sharing() -> "Sharing":
    from monitor.wiring.sharing import Sharing

    return Sharing()


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """A configuration and a database, from which the live parts are made."""

    config: Config
    engine: Engine
    sharing: "Sharing" = field(default_factory=_sharing)
    clock: Callable[[], datetime] = utcnow
    """Of all that is decided and stored."""

    def job(self, target: Target, *, scheduled: bool = False) -> "Job":
        """Everything that runs over one target need.

        Args:
            target: one of the configuration's.
            scheduled: whether its schedule is kept here, by the daemon; otherwise only one that somebody wrote down
                is expected of whoever keeps it, such as cron.
        """
        from monitor.check.strategy import Strategy
        from monitor.run import Job
        from monitor.store import leases
        from monitor.wiring.clients import open_client
        from monitor.wiring.heartbeats import heartbeat_of
        from monitor.wiring.providers import provider_of

        provider = provider_of(target)
        return Job(
            target=target.name,
            environment=self.config.environment,
            engine=self.engine,
            read_log=lambda: self.read_log(target),
            provider=provider,
            open_client=lambda: open_client(
                target, provider, self.sharing.throttle(target, self.config.targets, self.engine, utcnow=self.clock)
            ),
            judge=self._judge(target, scheduled=scheduled),
            heartbeat=heartbeat_of(target),
            strategy=Strategy(target.check.strategy),
            concurrency=target.check.concurrency,
            deadline=target.check.deadline,
            holder=holder(),
            utcnow=self.clock,
            lease_now=partial(leases.now_of, utcnow=self.clock),
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
            from monitor.synclog import read as read_log

            yield from read_log(_sync_log(target.sync_log))
            return
        from monitor.store import tracked
        from monitor.store.engine import connect_read_only

        # of the configured database, also when the run itself works on a scratch one (ADR 14)
        engine = connect_read_only(self.config.database.reveal())
        try:
            yield from tracked.read(engine, target=target.name)
        finally:
            engine.dispose()

    def sender(self) -> "Sender":
        """Delivers what is due to the configured channels."""
        from monitor.channels.log import LogChannel
        from monitor.delivery import Outlet, Sender

        outlets = {LOG_CHANNEL: Outlet(channel=LogChannel(), fingerprint=lambda: LOG_CHANNEL)}
        lasting = self._lasting()
        outlets.update({channel.name: _outlet(channel, lasting) for channel in self.config.channels})
        silencing = self.silencing()
        return Sender(
            self.engine,
            outlets,
            reach=self._reach(),
            holder=holder(),
            utcnow=self.clock,
            rand=random.random,
            before=[lambda conn, now: silencing.release(conn, now=now)],
        )

    def _lasting(self) -> timedelta:
        """How long an alert lasts that is not told again: longer than it can take until it is, in every mode."""
        now, config = self.clock(), self.config
        overdue = (due_times(config.schedule_of(each), each.name).overdue_at(now) for each in config.targets)
        return _SHORTEST_ALERT + max((each - now for each in overdue if each is not None), default=timedelta(0))

    def silencing(self) -> "Silencing":
        """Tells what silences kept back, once they end."""
        from monitor.silencing import Silencing

        past_failing = self._reach().router
        return Silencing(environment=self.config.environment, route=self._router(), past_failing=past_failing)

    def _reach(self) -> "Reachability":
        from monitor.incidents.rulebook import DEFAULT_RULES
        from monitor.reachability import Reachability

        names = [channel.name for channel in self.config.channels]
        rules = {name: rules_in_force(self.config.rules, target=channel_target(name)) for name in names}
        return Reachability(
            environment=self.config.environment,
            rule=DEFAULT_RULES[Cause.CHANNEL_FAILING],
            rules={name: rules[name][Cause.CHANNEL_FAILING] for name in names},
            channels=names,
            route=self._router(),
        )

    def _router(self) -> "Router":
        routes = routes_of(self.config)
        channels = [channel.name for channel in self.config.channels]
        return lambda attributes: route(attributes, routes, channels)

    def _judge(self, target: Target, *, scheduled: bool) -> "Judge":
        from monitor.judgement import Judge
        from monitor.store.members import Patience

        config, schedule = self.config, self.config.schedule_of(target)
        return Judge(
            target=target.name,
            environment=config.environment,
            rules=rules_in_force(config.rules, target=target.name),
            patience=Patience(stuck_after=target.check.stuck_after, missing_after=target.check.missing_after),
            route=self._router(),
            group_wait=config.group_wait if scheduled else timedelta(0),
            due_times=due_times(schedule, target.name, kept=scheduled) if scheduled or schedule.explicit else None,
        )


def due_times(schedule: Schedule, target: str, *, kept: bool = False) -> DueTimes:
    """When a target's runs are due by a schedule, which a daemon keeps or somebody's cron."""
    return schedule.due_times(target, kept=kept)


def _outlet(config: ChannelConfig, lasting: timedelta) -> "Outlet":
    from monitor.delivery import Outlet
    from monitor.wiring.channels import channel_of, fingerprint

    return Outlet(
        channel=channel_of(config, lasting=lasting),
        fingerprint=lambda: fingerprint(config),
        verbatim=config.include_api_message,
    )


def _sync_log(log: SyncLogConfig) -> "SyncLogSpec":
    from monitor.synclog import SyncLogSpec

    return SyncLogSpec(
        url=log.url.reveal(),
        table=log.table,
        id_column=log.id_column,
        submitted_at_column=log.submitted_at_column,
        group_column=log.group_column,
        timezone=log.timezone,
    )
