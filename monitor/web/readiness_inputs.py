"""Puts together what readiness rests on: the daemon's pulse and the last look at the database. It decides nothing."""

from monitor.notifications.routing import LOG_CHANNEL
from monitor.web.database_probe import ProbeResult, QueueStats, TargetState
from monitor.web.readiness import ChannelInput, DatabaseInput, ReadinessInputs, TargetInput
from monitor.web.state import StateSnapshot


def collect_inputs(daemon: StateSnapshot, probe: ProbeResult) -> ReadinessInputs:
    """What readiness rests on."""
    # what may only be read is in use by nobody; of a schema the look itself knows more
    error = probe.error or (daemon.store_error if probe.usable else None)
    return ReadinessInputs(
        stopping=daemon.stopping,
        heartbeat_age_s=daemon.heartbeat_age_s,
        reload_refused=daemon.reload_refused,
        database=DatabaseInput(error=error, schema=probe.schema),
        targets=target_inputs(daemon, probe),
        channels=channel_inputs(daemon, probe),
    )


def target_inputs(daemon: StateSnapshot, probe: ProbeResult) -> list[TargetInput]:
    """What is known of the configured targets' runs."""
    return [
        TargetInput(
            name=target.name,
            due_times=daemon.config.schedule_for(target).due_times(target.name, daemon_managed=True),
            deadline=target.check.deadline,
            watched_since=daemon.watched_since.get(target.name, daemon.started_at),
            last_run_at=probe.stored.targets.get(target.name, TargetState()).last_run_at,
        )
        for target in daemon.config.targets
    ]


def channel_inputs(daemon: StateSnapshot, probe: ProbeResult) -> list[ChannelInput]:
    """How the configured channels are, and the log, which takes what no other channel does."""
    stored = probe.stored
    names = dict.fromkeys((*(channel.name for channel in daemon.config.channels), LOG_CHANNEL))
    return [
        ChannelInput(
            name=name,
            suspended=name in stored.channels and stored.channels[name].suspended_at is not None,
            oldest_due_at=stored.queues.get(name, QueueStats()).oldest_due_at,
        )
        for name in names
    ]
