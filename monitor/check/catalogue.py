"""Fetches a provider's list, page by page, as a stream: nothing but ids and their standing stays in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from monitor.exchange import Answer, ApiError, Request, Sink
from monitor.model import BadBody
from monitor.providers import Listing, ListReader, Provider

__all__ = ["Catalogue", "ListAsker", "fetch"]

MOST_PAGES = 100_000


class ListAsker(Protocol):
    """What fetching a list needs of the resilient client."""

    async def ask(
        self,
        request: Request,
        *,
        deadline_s: float,
        into: Callable[[], Sink] | None = None,
        max_attempts: int | None = None,
        again: bool = False,
    ) -> Answer:
        """Sends a request, with retries; hands the body to what `into` makes for each attempt."""
        ...


@dataclass(slots=True, kw_only=True)
class Catalogue:
    """What came of asking for a list: `listing` is whole only without `error` and `bad`."""

    listing: Listing = field(default_factory=Listing)
    error: ApiError | None = None
    bad: BadBody | None = None
    requests: int = 0
    retries: int = 0
    latencies_ms: list[float] = field(default_factory=list)


async def fetch(
    provider: Provider,
    client: ListAsker,
    *,
    first: Request,
    deadline_s: float,
    max_attempts: int | None = None,
    most_pages: int = MOST_PAGES,
) -> Catalogue:
    """Reads the whole list.

    Args:
        provider: how to read a page, and which comes next.
        client: the resilient client.
        first: the request for the first page.
        deadline_s: when to give up, on the monotonic clock.
        max_attempts: per page; None: as the client is set up.
        most_pages: a list of more is not read to its end.
    """
    found = Catalogue()
    asked: set[str] = set()
    page: Request | BadBody | None = first
    while isinstance(page, Request):
        if page.path in asked or len(asked) >= most_pages:
            page = BadBody(reason="the list's pages lead in a circle" if page.path in asked else "the list never ends")
            break
        asked.add(page.path)
        page = await _page(provider, client, page, found, deadline_s=deadline_s, max_attempts=max_attempts)
    found.bad = page if isinstance(page, BadBody) else None
    return found


async def _page(
    provider: Provider,
    client: ListAsker,
    page: Request,
    found: Catalogue,
    *,
    deadline_s: float,
    max_attempts: int | None,
) -> Request | BadBody | None:
    """Reads one page; what comes after it."""
    readers: list[ListReader] = []

    def sink() -> Sink:
        # one page that was cut is read again from its start; what it added already is added again
        readers.append(provider.list_reader(page, found.listing))
        return readers[-1].feed

    answer = await client.ask(page, deadline_s=deadline_s, into=sink, max_attempts=max_attempts)
    found.requests += answer.attempts
    found.retries += max(0, answer.attempts - 1)
    if answer.attempts:
        found.latencies_ms.append(answer.latency_ms)
    if answer.reply is None:
        found.error = answer.error or ApiError(status=None)
        return None
    return readers[-1].finish(answer.reply.headers) if readers else BadBody(reason="the list came without a body")
