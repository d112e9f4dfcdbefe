"""Silences that keep people from hearing of trouble: those that last long, and those that match everything. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from monitor.incidents.asking import matches_everything, written
from monitor.incidents.render import age
from monitor.model import Silence
from monitor.report.doctor import Finding, Level

__all__ = ["LONG", "judge"]

LONG = timedelta(days=7)


def judge(silences: Sequence[Silence], *, now: datetime, option: str = "") -> Iterator[Finding]:
    """A warning for each silence in force or to come that lasts too long, or leaves nothing out.

    Args:
        silences: any.
        now: when (aware).
        option: what a command needs to read the same configuration.
    """
    for silence in silences:
        lasts = silence.ends_at - silence.starts_at
        faults = ["matches everything"] if matches_everything(silence.matchers) else []
        faults += [f"lasts {age(lasts)}"] if lasts > LONG else []
        if faults and silence.ends_at > now:
            what = f"silence {silence.id} ({written(silence.matchers)}, by {silence.author})"
            yield Finding(
                part="silences",
                level=Level.WARNING,
                says=f"{what} {' and '.join(faults)}: until {silence.ends_at:%Y-%m-%d %H:%M} UTC nobody hears of it.",
                remedy="end it, and make a narrower or a shorter one",
                command=f"ingestion-monitor silences expire {silence.id}{option}",
            )
