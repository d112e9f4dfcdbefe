"""Messages that did not reach anybody: channels that are parked or fail, and dead letters. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from monitor.incidents.words import spoken
from monitor.model import ChannelState, Incident
from monitor.report.doctor import Finding, Level
from monitor.store.undelivered import Undelivered

__all__ = ["judge", "orphaned"]

_RETRY = "ingestion-monitor notifications retry"


def judge(
    states: Mapping[str, ChannelState], undelivered: Sequence[Undelivered], *, now: datetime
) -> Iterator[Finding]:
    """A problem for each channel through which nothing gets, a warning for each with dead letters; else nothing.

    Args:
        states: of the channels that ever failed, by name.
        undelivered: what did not get through lately, by channel.
        now: the time (aware).
    """
    counts = {each.channel: each for each in undelivered}
    for name in sorted({*states, *counts}):
        state, count = states.get(name, ChannelState(name=name)), counts.get(name)
        waiting, dead = (count.waiting, count.dead) if count else (0, 0)
        if state.parked_at is not None:
            says = f"it is parked since {_spoken(state.parked_at)} ({state.last_error}); waiting: {_messages(waiting)}."
            remedy = "mend its settings, or the receiver; then"
            yield Finding(
                part=name, level=Level.PROBLEM, says=says, remedy=remedy, command=f"{_RETRY} --channel {name}"
            )
        elif state.failing_since is not None and state.failing_since < now:
            says = f"nothing gets through since {_spoken(state.failing_since)} ({state.last_error}); it is tried again."
            yield Finding(part=name, level=Level.WARNING, says=says)
        if dead:
            says = f"{_messages(dead)} of the last week given up: `ingestion-monitor notifications dead` has them."
            again = f"{_RETRY} --dead --channel {name}"
            yield Finding(part=name, level=Level.WARNING, says=says, remedy="to send them all the same", command=again)


def orphaned(open_ones: Sequence[Incident], known: Collection[str]) -> Iterator[Finding]:
    """A warning for each open incident of a target that is not configured any more: no run will ever end it.

    Args:
        open_ones: open incidents, those of channels included.
        known: names of the targets that there are.
    """
    for incident in open_ones:
        if incident.target not in known and spoken(incident.target) == incident.target:
            says = f"incident {incident.id} ({incident.cause.value}) is open, and there is no such target any more."
            end = f"ingestion-monitor incidents resolve {incident.id}"
            yield Finding(part=incident.target, level=Level.WARNING, says=says, remedy="end it by hand", command=end)


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _spoken(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
