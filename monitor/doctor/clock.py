"""How far our clock and the API's are apart, by the `Date` of its answers, which a wire in between overhears."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from monitor.exchange import NetworkFault, Reply, Request, Sink, Wire, WireFault
from monitor.report.doctor import Finding, Level
from monitor.wiring import utcnow

__all__ = ["TOLERANCE", "Overheard", "judge", "offset"]

TOLERANCE = timedelta(seconds=30)


@dataclass(slots=True, kw_only=True, eq=False)
class Overheard:
    """A wire that remembers of the answers to an API's requests what errors do not keep."""

    wire: Wire
    replies: int = 0
    fault: NetworkFault | None = None
    """Of the last attempt, if it brought no answer."""
    ahead: timedelta | None = None
    """How far the API's clock was ahead of ours at its last answer; None while it did not say."""

    async def send(
        self, request: Request, *, timeout_s: float, sink: Sink | None = None, stall_s: float | None = None
    ) -> Reply | WireFault:
        """Sends the request once; see `Wire.send`."""
        result = await self.wire.send(request, timeout_s=timeout_s, sink=sink, stall_s=stall_s)
        if isinstance(result, WireFault):
            self.fault = result.fault
            return result
        self.replies, self.fault = self.replies + 1, None
        told = offset(result.headers.get("date", ""), result.headers.get("age", ""), now=utcnow())
        self.ahead = self.ahead if told is None else told
        return result

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        await self.wire.close()


def offset(date: str, age: str, *, now: datetime) -> timedelta | None:
    """How far a server's clock is ahead of `now`; None if its headers do not say.

    Args:
        date: the header `Date`, which has whole seconds.
        age: the header `Age` of an answer from a cache, in seconds (RFC 9111, 5.1); empty without one.
        now: when the answer came (aware).
    """
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, IndexError, TypeError):
        return None
    aware = told if told.tzinfo else told.replace(tzinfo=UTC)
    kept_s = int(age) if age.isascii() and age.isdigit() and len(age) < 9 else 0
    return aware + timedelta(seconds=kept_s) - now


def judge(ahead: timedelta | None) -> Finding:
    """Whether the clocks agree, by half a minute."""
    if ahead is None:
        return Finding(part="clock", level=Level.NOT_TRIED, says="not tried: no answer said what time the API has.")
    seconds = round(abs(ahead).total_seconds())
    if abs(ahead) <= TOLERANCE:
        return Finding(part="clock", level=Level.OK, says=f"ours and the API's agree within {max(seconds, 1)} s.")
    direction = "behind" if ahead > timedelta(0) else "ahead of"
    return Finding(
        part="clock",
        level=Level.WARNING,
        says=f"ours is {seconds} s {direction} the API's: ages of items and tokens are misjudged by as much.",
        remedy="synchronise this machine's clock (NTP); if it is right, tell the provider",
    )
