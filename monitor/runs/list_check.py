"""Fetches a provider's list, page by page, as a stream: nothing but ids and their standing stays in memory."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from monitor.model import BadBody, Standing
from monitor.model.http import Answer, ApiError, Request, Sink
from monitor.providers import Listing, ListReader, Provider
from monitor.runs.strategy import SAMPLE

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How a list and a work list compare."""

    tracked: int
    named: int
    """Tracked ids that the list names."""
    lacking: int
    """Tracked ids that it could name, and does not."""
    sample: tuple[str, ...]
    """Up to `SAMPLE` of them, spread over all."""
    confirmed: int
    """Items known to be completed, of which the list says so again."""
    unconfirmed: int
    """Items known to be completed, of which it does not."""


def confirmed(standing: Standing, listing: Listing, canonical: Callable[[str], str]) -> bool:
    """Whether the list says again what is known: nothing about the item has to be asked or stored."""
    return standing.finished and standing.seen_so and listing.completed_as(canonical(standing.item_id)) is not None


def survey(
    pages: Iterable[Sequence[Standing]],
    listing: Listing,
    *,
    canonical: Callable[[str], str],
    valid: Callable[[str], bool],
) -> Survey:
    """Compares them in one pass over the work list.

    Args:
        pages: every tracked item.
        listing: what the list says.
        canonical: the spelling under which the list files an id.
        valid: whether the API could accept an id; one that it can't is in no list, and says nothing about this one.
    """
    tracked = named = lacking = finished = agreed = 0
    sample, stride = [], 1
    for page in pages:
        for standing in page:
            tracked += 1
            finished += standing.finished
            if confirmed(standing, listing, canonical):
                agreed += 1
            elif listing.names(canonical(standing.item_id)):
                named += 1
            elif valid(standing.item_id):
                if lacking % stride == 0:
                    sample.append(standing.item_id)
                lacking += 1
                if len(sample) > 2 * SAMPLE:
                    sample, stride = sample[::2], stride * 2
    few = min(SAMPLE, len(sample))
    spread = tuple(sample[len(sample) * position // few] for position in range(few))
    return Survey(
        tracked=tracked,
        named=named + agreed,
        lacking=lacking,
        sample=spread,
        confirmed=agreed,
        unconfirmed=finished - agreed,
    )
