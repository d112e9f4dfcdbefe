"""Puts together what readiness rests on: the daemon's pulse and the last look at the database. It decides nothing."""

from monitor.notifications.routing import LOG_CHANNEL
from monitor.web.database_snapshot import Mail, Reading, Standing
from monitor.web.readiness import ChannelSigns, DatabaseSigns, Signs, TargetSigns
from monitor.web.state import Pulse


def signs_of(pulse: Pulse, reading: Reading) -> Signs:
    """What readiness rests on."""
    # what may only be read is in use by nobody; of a schema the look itself knows more
    error = reading.error or (pulse.store_error if reading.usable else None)
    return Signs(
        stopping=pulse.stopping,
        beat_age_s=pulse.beat_age_s,
        reload_refused=pulse.reload_refused,
        database=DatabaseSigns(error=error, schema=reading.schema),
        targets=targets_of(pulse, reading),
        channels=channels_of(pulse, reading),
    )


def targets_of(pulse: Pulse, reading: Reading) -> list[TargetSigns]:
    """What is known of the configured targets' runs."""
    return [
        TargetSigns(
            name=target.name,
            due_times=pulse.config.schedule_for(target).due_times(target.name, daemon_managed=True),
            deadline=target.check.deadline,
            watched_since=pulse.watched_since.get(target.name, pulse.started_at),
            last_run_at=reading.stored.targets.get(target.name, Standing()).last_run_at,
        )
        for target in pulse.config.targets
    ]


def channels_of(pulse: Pulse, reading: Reading) -> list[ChannelSigns]:
    """How the configured channels are, and the log, which takes what no other channel does."""
    stored = reading.stored
    names = dict.fromkeys((*(channel.name for channel in pulse.config.channels), LOG_CHANNEL))
    return [
        ChannelSigns(
            name=name,
            parked=name in stored.channels and stored.channels[name].parked_at is not None,
            oldest_due_at=stored.mail.get(name, Mail()).oldest_due_at,
        )
        for name in names
    ]
