"""Sends a target's API the few requests that show whether a run would work. `api_findings` evaluates the answers.

1. A token, if there are client credentials.
2. One item of the sample; while the API does not know it, the next one.
3. The list, read only until it is clear that it can be read.

They go through the client of a run, without retries, since a person waits.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from monitor.app import open_client, utcnow
from monitor.cli.doctor.api_findings import ApiAnswers, ItemAnswer, ListAnswer
from monitor.cli.doctor.findings import Finding, Level
from monitor.client.classify import is_absent, rejects_credentials
from monitor.client.client import Client
from monitor.config import TargetConfig
from monitor.model import BadBody
from monitor.model.http import ApiError, BodySink, Meaning, NetworkFault, Reply, Request, Transport, TransportFault
from monitor.providers import FollowUp, Listing, ListReader, Provider, is_list_only, request_for
from monitor.runs.strategy import Strategy

CLOCK_TOLERANCE = timedelta(seconds=30)
MAX_WAIT_S = 15.0
"""For one answer, in seconds."""
_ENOUGH_BYTES = 1 << 16
"""Of a list, if there is an item in them."""


async def probe_api(
    target: TargetConfig, provider: Provider, sample: Sequence[str], params: Mapping[str, Mapping[str, str]]
) -> tuple[ApiAnswers, timedelta | None]:
    """The API's answers about the sample, and how far its clock is ahead of ours (None if it did not say).

    `params` are the path parameters by id, if the sync log has any.
    """
    async with open_client(target, provider) as configured:
        transport = RecordingWire(transport=configured.transport)
        timeout_s = min(configured.attempt_timeout_s, MAX_WAIT_S)
        client = replace(configured, transport=transport, max_attempts=1, attempt_timeout_s=timeout_s)
        questions = [(item_id, request_for(provider, item_id, params.get(item_id, {}))) for item_id in sample]
        answers = await _ask(client, provider, questions, strategy=target.check.strategy)
    return replace(answers, replies=transport.replies, fault=transport.fault), transport.ahead


@dataclass(slots=True, kw_only=True, eq=False)
class RecordingWire:
    """A transport that records what `ApiError` does not keep of the answers."""

    transport: Transport
    replies: int = 0
    fault: NetworkFault | None = None
    """Of the last attempt, if it had no answer."""
    ahead: timedelta | None = None
    """How far the API's clock was ahead of ours at its last answer with a date."""

    async def send(
        self, request: Request, *, timeout_s: float, sink: BodySink | None = None, read_timeout_s: float | None = None
    ) -> Reply | TransportFault:
        """Sends the request once; see `Transport.send`."""
        result = await self.transport.send(request, timeout_s=timeout_s, sink=sink, read_timeout_s=read_timeout_s)
        if isinstance(result, TransportFault):
            self.fault = result.fault
            return result
        self.replies, self.fault = self.replies + 1, None
        offset = clock_offset(result.headers.get("date", ""), result.headers.get("age", ""), now=utcnow())
        self.ahead = self.ahead if offset is None else offset
        return result

    async def close(self) -> None:
        """Closes every connection. Safe to call twice."""
        await self.transport.close()


async def _ask(
    client: Client, provider: Provider, questions: Sequence[tuple[str, Request]], *, strategy: str
) -> ApiAnswers:
    refusal = await _token_error(client)
    if refusal is not None:
        return ApiAnswers(replies=0, refusal=refusal)
    list_only = is_list_only(provider)
    item_answers: list[ItemAnswer] = []
    error = None
    for item_id, request in () if list_only else questions:
        item_answers.append(await _ask_about(client, provider, item_id, request))
        error = item_answers[-1].error
        if error is None or not is_absent(error):
            break
    first = provider.list_request() if list_only or strategy != Strategy.ITEMS else None
    reachable = error is None or not (error.status is None or rejects_credentials(error))
    sample = [item_id for item_id, _ in questions]
    list_ = await _ask_list(client, provider, first, sample) if first is not None and reachable else None
    return ApiAnswers(replies=0, item_answers=tuple(item_answers), list_=list_)


async def _ask_about(client: Client, provider: Provider, item_id: str, request: Request) -> ItemAnswer:
    """Asks about one item, as a run does it."""
    batch: Any = provider if getattr(provider, "batch_size", 1) > 1 else None
    result = await client.send(request, deadline_s=_deadline_s(client))
    if result.reply is None:
        return ItemAnswer(item_id=item_id, result=result)
    if batch:
        return ItemAnswer(
            item_id=item_id, result=result, status=batch.read_batch(result.reply.body, [item_id])[item_id]
        )
    status = provider.read_item(result.reply.body, item_id)
    if not isinstance(status, FollowUp):
        return ItemAnswer(item_id=item_id, result=result, status=status)
    result = await client.send(status.request, deadline_s=_deadline_s(client))
    follow_up: Any = provider
    read = follow_up.read_follow_up(result.reply.body, item_id) if result.reply is not None else None
    return ItemAnswer(item_id=item_id, result=result, status=read)


def _deadline_s(client: Client) -> float:
    # a little later than the attempt's timeout, so that a slow API is an API error, not a missed deadline
    return time.monotonic() + client.attempt_timeout_s + 1


async def _token_error(client: Client) -> ApiError | None:
    """Why there is no token, or no key to send; None if there is one, or none is needed."""
    if client.auth is None:
        return None
    bare = replace(client, auth=None)

    async def send(request: Request) -> Reply | ApiError:
        answer = await bare.send(request, deadline_s=_deadline_s(bare))
        return answer.reply or answer.error or ApiError(status=None)

    credential = await client.auth.acquire(send, monotonic=time.monotonic)
    return credential if isinstance(credential, ApiError) else None


async def _ask_list(client: Client, provider: Provider, first: Request, sample: Sequence[str]) -> ListAnswer:
    listing = Listing()
    partial_lists: list[_PartialList] = []

    def sink() -> BodySink:
        partial_lists.append(_PartialList(reader=provider.list_reader(first, listing), listing=listing))
        return partial_lists[-1].feed

    answer = await client.send(first, deadline_s=_deadline_s(client), sink_factory=sink)
    if answer.reply is None:
        return ListAnswer(error=answer.error)
    partial_list = partial_lists[-1]
    rest = None if partial_list.truncated else partial_list.reader.finish(answer.reply.headers)
    if isinstance(rest, Meaning):
        return ListAnswer(error=ApiError(status=answer.reply.status, meaning=rest))
    return ListAnswer(
        bad_body=rest if isinstance(rest, BadBody) else None,
        items=len(listing),
        complete=rest is None and not partial_list.truncated,
        accepted=not isinstance(rest, BadBody) and not answer.cached,
        known_ids=sum(listing.contains(provider.canonical(item_id)) for item_id in sample),
    )


@dataclass(slots=True, kw_only=True)
class _PartialList:
    """Reads a list until enough of it is known."""

    reader: ListReader
    listing: Listing
    read: int = 0
    truncated: bool = False

    def feed(self, piece: bytes) -> bool:
        self.read += len(piece)
        if not self.reader.feed(piece):
            return False
        self.truncated = self.read >= _ENOUGH_BYTES and len(self.listing) > 0
        return not self.truncated


def clock_offset(date: str, age: str, *, now: datetime) -> timedelta | None:
    """How far a server's clock is ahead of `now`, the time of its answer; None if its headers do not say.

    `date` and `age` are headers: a time in whole seconds, and the age of a cached answer in seconds (RFC 9111, 5.1).
    """
    try:
        server_time = parsedate_to_datetime(date)
    except (ValueError, IndexError, TypeError):
        return None
    aware = server_time if server_time.tzinfo else server_time.replace(tzinfo=UTC)
    age_s = int(age) if age.isascii() and age.isdigit() and len(age) < 9 else 0
    return aware + timedelta(seconds=age_s) - now


def check_clock(ahead: timedelta | None) -> Finding:
    """Whether the clocks agree within half a minute."""
    if ahead is None:
        return Finding(part="clock", level=Level.NOT_TRIED, message="not tried: no answer had the API's time.")
    seconds = round(abs(ahead).total_seconds())
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding(part="clock", level=Level.OK, message=f"ours and the API's agree within {max(seconds, 1)} s.")
    direction = "behind" if ahead > timedelta(0) else "ahead of"
    return Finding(
        part="clock",
        level=Level.WARNING,
        message=f"ours is {seconds} s {direction} the API's: ages of items and tokens are wrong by as much.",
        remedy="synchronise this machine's clock (NTP); if it is right, report it to the provider",
    )
