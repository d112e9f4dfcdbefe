"""Asks a target's API the few questions that show whether a run would get through. It judges no answer.

1. For a token, where there are client credentials.
2. For one item of the sample; while the API knows none, for the others too.
3. For the list, of which no more is read than shows that it can be read.
Each question is asked once, without retries: who asks is waiting.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from monitor.app import open_client, utcnow
from monitor.cli.doctor.api_findings import ApiAnswers, ListAnswer
from monitor.cli.doctor.findings import Finding, Level
from monitor.client.auth import AuthHeader
from monitor.client.client import Client
from monitor.config import TargetConfig
from monitor.model import BadBody
from monitor.model.http import ApiError, BodySink, CallResult, NetworkFault, Reply, Request, Transport, TransportFault
from monitor.providers import Listing, ListReader, Provider
from monitor.runs.strategy import Strategy

CLOCK_TOLERANCE = timedelta(seconds=30)


@dataclass(slots=True, kw_only=True, eq=False)
class RecordingWire:
    """A wire that remembers of the answers to an API's requests what errors do not keep."""

    transport: Transport
    replies: int = 0
    fault: NetworkFault | None = None
    """Of the last attempt, if it brought no answer."""
    ahead: timedelta | None = None
    """How far the API's clock was ahead of ours at its last answer; None while it did not say."""

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once; see `Transport.send`."""
        result = await self.transport.send(request, timeout_s=timeout_s, sink=sink, read_timeout_s=read_timeout_s)
        if isinstance(result, TransportFault):
            self.fault = result.fault
            return result
        self.replies, self.fault = self.replies + 1, None
        server_time = clock_offset(result.headers.get("date", ""), result.headers.get("age", ""), now=utcnow())
        self.ahead = self.ahead if server_time is None else server_time
        return result

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        await self.transport.close()


def clock_offset(date: str, age: str, *, now: datetime) -> timedelta | None:
    """How far a server's clock is ahead of `now`; None if its headers do not say.

    Args:
        date: the header `Date`, which has whole seconds.
        age: the header `Age` of an answer from a cache, in seconds (RFC 9111, 5.1); empty without one.
        now: when the answer came (aware).
    """
    try:
        server_time = parsedate_to_datetime(date)
    except (ValueError, IndexError, TypeError):
        return None
    aware = server_time if server_time.tzinfo else server_time.replace(tzinfo=UTC)
    age_s = int(age) if age.isascii() and age.isdigit() and len(age) < 9 else 0
    return aware + timedelta(seconds=age_s) - now


def check_clock(ahead: timedelta | None) -> Finding:
    """Whether the clocks agree, by half a minute."""
    if ahead is None:
        return Finding(part="clock", level=Level.NOT_TRIED, message="not tried: no answer said what time the API has.")
    seconds = round(abs(ahead).total_seconds())
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding(part="clock", level=Level.OK, message=f"ours and the API's agree within {max(seconds, 1)} s.")
    direction = "behind" if ahead > timedelta(0) else "ahead of"
    return Finding(
        part="clock",
        level=Level.WARNING,
        message=f"ours is {seconds} s {direction} the API's: ages of items and tokens are misjudged by as much.",
        remedy="synchronise this machine's clock (NTP); if it is right, tell the provider",
    )


MAX_WAIT_S = 15.0
"""For one answer, in seconds."""
_ENOUGH_BYTES = 1 << 16
"""Of a list, if there is an item in them."""
_NOT_FOUND = frozenset({404, 410})


async def probe_api(
    target: TargetConfig, provider: Provider, sample: Sequence[str]
) -> tuple[ApiAnswers, timedelta | None]:
    """Asks the API.

    Args:
        target: which.
        provider: of the target.
        sample: ids of items; ones that the provider can't accept are left out before.

    Returns:
        What it said, and how far its clock is ahead of ours (None if it did not say).
    """
    async with open_client(target, provider) as configured:
        transport = RecordingWire(transport=configured.transport)
        timeout_s = min(configured.attempt_timeout_s, MAX_WAIT_S)
        client = replace(configured, transport=transport, max_attempts=1, attempt_timeout_s=timeout_s)
        answers = await _ApiProbe(client=client, provider=provider).ask(sample, strategy=target.check.strategy)
    return replace(answers, replies=transport.replies, fault=transport.fault), transport.ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class _ApiProbe:
    client: Client
    provider: Provider

    async def ask(self, sample: Sequence[str], *, strategy: str) -> ApiAnswers:
        refusal = await self._token_error()
        if refusal is not None:
            return ApiAnswers(replies=0, refusal=refusal)
        item_answers: list[tuple[str, CallResult]] = []
        for item_id in sample:
            item_answers.append((item_id, await self._send(self.provider.item_request(item_id))))
            if not _is_not_found(item_answers[-1][1]):
                break
        first = self.provider.list_request() if strategy != Strategy.ITEMS else None
        reachable = (
            not item_answers or item_answers[-1][1].error is None or item_answers[-1][1].error.status not in {None, 401}
        )
        list_ = await self._list(first, sample) if first is not None and reachable else None
        return ApiAnswers(replies=0, item_answers=tuple(item_answers), list_=list_)

    async def _token_error(self) -> ApiError | None:
        """Why there is no token, or no key to send; None if there is one, or none is needed."""
        if self.client.auth is None:
            return None
        bare = replace(self.client, auth=None)

        async def send(request: Request) -> Reply | ApiError:
            answer = await bare.send(request, deadline_s=self._deadline_s())
            return answer.reply or answer.error or ApiError(status=None)

        auth_header = await self.client.auth.acquire(send, monotonic=time.monotonic)
        return None if isinstance(auth_header, AuthHeader) else auth_header

    async def _list(self, first: Request, sample: Sequence[str]) -> ListAnswer:
        listing = Listing()
        partial_lists: list[_PartialList] = []

        def sink() -> BodySink:
            partial_lists.append(_PartialList(reader=self.provider.list_reader(first, listing), listing=listing))
            return partial_lists[-1].feed

        answer = await self.client.send(first, deadline_s=self._deadline_s(), sink_factory=sink)
        if answer.reply is None:
            return ListAnswer(error=answer.error)
        partial_list = partial_lists[-1]
        rest = None if partial_list.truncated else partial_list.reader.finish(answer.reply.headers)
        known_ids = sum(listing.contains(self.provider.canonical(item_id)) for item_id in sample)
        return ListAnswer(
            bad_body=rest if isinstance(rest, BadBody) else None,
            items=len(listing),
            complete=rest is None and not partial_list.truncated,
            known_ids=known_ids,
        )

    async def _send(self, request: Request) -> CallResult:
        return await self.client.send(request, deadline_s=self._deadline_s())

    def _deadline_s(self) -> float:
        # a little later than the attempt's own timeout: it is the API that was slow, not we who had no time
        return time.monotonic() + self.client.attempt_timeout_s + 1


@dataclass(slots=True, kw_only=True)
class _PartialList:
    """Reads a list until enough of it is understood."""

    reader: ListReader
    listing: Listing
    read: int = 0
    truncated: bool = field(default=False)

    def feed(self, piece: bytes) -> bool:
        self.read += len(piece)
        if not self.reader.feed(piece):
            return False
        self.truncated = self.read >= _ENOUGH_BYTES and len(self.listing) > 0
        return not self.truncated


def _is_not_found(answer: CallResult) -> bool:
    return answer.error is not None and answer.error.status in _NOT_FOUND and not answer.error.from_token_endpoint
