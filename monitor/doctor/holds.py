"""Whether what earlier runs learned holds a target back: a server's hint, or a breaker that was open. Pure."""

from collections.abc import Iterator
from datetime import datetime

from monitor.doctor.places import Place
from monitor.incidents.words import what_to_check
from monitor.model import Cause, Learned
from monitor.report.doctor import Finding, Level

__all__ = ["judge"]

_LONGEST_CODE = 60


def judge(learned: Learned | None, *, now: datetime, at: Place) -> Iterator[Finding]:
    """A warning for each of the two that is so; nothing otherwise.

    Args:
        learned: about the target's origin and credential; None: nothing yet.
        now: the time (aware).
        at: the place of the target's `check`.
    """
    if learned is None:
        return
    if learned.not_before is not None and learned.not_before > now:
        yield _held(learned, learned.not_before, at)
    if learned.down:
        says = (
            f"the API was down at the end of the last run ({_spoken(learned.at)}): the next begins with one request, "
            "and goes on if that is answered."
        )
        yield Finding(part="breaker", level=Level.WARNING, says=says)


def _held(learned: Learned, until: datetime, at: Place) -> Finding:
    code = f", code {learned.code[:_LONGEST_CODE]}" if learned.code else ""
    how = f" (HTTP {learned.status}{code})" if learned.status else ""
    # a 503 asks for patience: nothing here is to be set otherwise
    limited = learned.status == 429
    return Finding(
        part="hint",
        level=Level.WARNING,
        says=f"the API said{how} to come back at {_spoken(until)}: until then runs send nothing.",
        remedy="; ".join(what_to_check(Cause.RATE_LIMITED)) if limited else "",
        setting=at.setting if limited else None,
        place=at.where if limited else None,
    )


def _spoken(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
