"""Fetches a provider's list as a stream and compares it with the work list. Only ids and states stay in memory."""

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from monitor.model import BadBody, ItemCompletion
from monitor.model.http import ApiError, BodySink, Meaning, Request
from monitor.providers import Listing, ListReader, Provider, is_list_only
from monitor.providers.id_set import IdSet
from monitor.runs.progress import ApiClient
from monitor.runs.strategy import SAMPLE_SIZE

MAX_PAGES = 100_000
MAX_DOUBTFUL = 50_000
"""Settled items that the list may not confirm, of which the hashes are kept."""


@dataclass(slots=True, kw_only=True)
class FetchedList:
    """A fetched list; `listing` is complete only without `error` and `bad_body`."""

    listing: Listing = field(default_factory=Listing)
    error: ApiError | None = None
    bad_body: BadBody | None = None
    requests: int = 0
    retries: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    cached: bool = False
    """A page came out of a cache: it shows nothing about the credentials."""


async def fetch_list(
    provider: Provider,
    client: ApiClient,
    *,
    first: Request,
    deadline_s: float,
    max_attempts: int | None = None,
    max_pages: int = MAX_PAGES,
) -> FetchedList:
    """Fetches all pages until `deadline_s` (monotonic), with `max_attempts` per page (None: the client's default)."""
    fetched = FetchedList(listing=Listing(keep_statuses=is_list_only(provider)))
    requested: set[tuple[str, bytes | None]] = set()
    page: Request | BadBody | None = first
    while isinstance(page, Request):
        question = page.path, page.body
        if question in requested or len(requested) >= max_pages:
            page = BadBody(
                reason="the list repeats a page" if question in requested else f"the list has over {max_pages} pages"
            )
            break
        requested.add(question)
        page = await _page(provider, client, page, fetched, deadline_s=deadline_s, max_attempts=max_attempts)
    fetched.bad_body = page if isinstance(page, BadBody) else None
    return fetched


async def _page(
    provider: Provider,
    client: ApiClient,
    page: Request,
    fetched: FetchedList,
    *,
    deadline_s: float,
    max_attempts: int | None,
) -> Request | BadBody | None:
    """Reads one page and returns the request for the next."""
    readers: list[ListReader] = []

    def sink() -> BodySink:
        # a retry reads the page from its start; entries that were added before are added again
        readers.append(provider.list_reader(page, fetched.listing))
        return readers[-1].feed

    result = await client.send(page, deadline_s=deadline_s, sink_factory=sink, max_attempts=max_attempts)
    fetched.requests += result.attempts
    fetched.retries += max(0, result.attempts - 1)
    if result.attempts:
        fetched.latencies_ms.append(result.latency_ms)
    fetched.cached = fetched.cached or result.cached
    if result.reply is None:
        fetched.error = result.error or ApiError(status=None)
        return None
    following = readers[-1].finish(result.reply.headers) if readers else BadBody(reason="the list came without a body")
    if isinstance(following, Meaning):
        fetched.error = ApiError(status=result.reply.status, meaning=following)
        return None
    return following


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The result of comparing a list with the work list."""

    tracked: int
    listed: int
    missing: int
    """Valid tracked ids that are not in the list."""
    sample: tuple[str, ...]
    """Up to `SAMPLE_SIZE` missing ids, evenly spread."""
    confirmed: int
    """Completed items that the list confirms."""
    unconfirmed: int
    """Completed items that the list does not confirm."""
    confirms_settled: bool = field(default=False, compare=False)
    """Whether it confirms every item that was settled, if those were compared at once."""


def unconfirmed_ids(page: Sequence[ItemCompletion], listing: Listing, canonical: Callable[[str], str]) -> Sequence[str]:
    """The completed items that the list does not confirm: others need no request and no write."""
    stages = _stages(page, listing, canonical)
    return [
        each.item_id
        for each, stage in zip(page, stages, strict=True)
        if each.known_completed and not (each.last_seen_completed and stage is not None)
    ]


def _stages(page: Sequence[ItemCompletion], listing: Listing, canonical: Callable[[str], str]) -> Sequence[str | None]:
    return listing.completed_stages([canonical(each.item_id) for each in page])


def reconcile(
    pages: Iterable[Sequence[ItemCompletion]],
    listing: Listing,
    *,
    canonical: Callable[[str], str],
    valid: Callable[[str], bool],
) -> Reconciliation:
    """Compares a list with all tracked items in one pass. Ids that are not `valid` do not count as missing."""
    tracked = listed = missing = known_completed = confirmed_count = 0
    sample, stride = [], 1
    for page in pages:
        tracked += len(page)
        for completion, stage in zip(page, _stages(page, listing, canonical), strict=True):
            known_completed += completion.known_completed
            if stage is not None and completion.known_completed and completion.last_seen_completed:
                confirmed_count += 1
            elif stage is not None or listing.contains(canonical(completion.item_id)):
                listed += 1
            elif valid(completion.item_id):
                if missing % stride == 0:
                    sample.append(completion.item_id)
                missing += 1
                if len(sample) > 2 * SAMPLE_SIZE:
                    sample, stride = sample[::2], stride * 2
    size = min(SAMPLE_SIZE, len(sample))
    spread = tuple(sample[len(sample) * position // size] for position in range(size))
    return Reconciliation(
        tracked=tracked,
        listed=listed + confirmed_count,
        missing=missing,
        sample=spread,
        confirmed=confirmed_count,
        unconfirmed=known_completed - confirmed_count,
    )


def reconcile_settled(
    read: Callable[[], Iterable[Sequence[str]]],
    others: Sequence[ItemCompletion],
    listing: Listing,
    *,
    apart: Collection[str],
    canonical: Callable[[str], str],
    valid: Callable[[str], bool],
    confirmed: int | None = None,
) -> Reconciliation:
    """The same, for many ids that are completed and were last seen so, and for `others`. `apart` are the ids in the
    work list that are not among the many, such as those of `others`.

    1. All these ids are compared with the list at once.
    2. Those that the list may not confirm are read again, for `reconcile`; all of them if they are many.

    `read` returns the same ids each time. It is not called if the list is known to confirm them all: then `confirmed`
    says how many they are.
    """
    if confirmed is None:
        settled, doubtful = _doubtful(read(), listing, list(map(canonical, apart)), canonical)
    else:
        settled, doubtful = confirmed, set[int]()

    def rest() -> Iterator[Sequence[ItemCompletion]]:
        yield others
        for page in read() if doubtful else ():
            again = page if len(doubtful) == MAX_DOUBTFUL else [i for i in page if hash(canonical(i)) in doubtful]
            yield [ItemCompletion(item_id=i, known_completed=True, last_seen_completed=True) for i in again]

    found = reconcile(rest(), listing, canonical=canonical, valid=valid)
    sure = settled + len(others) - found.tracked
    return replace(
        found,
        tracked=found.tracked + sure,
        listed=found.listed + sure,
        confirmed=found.confirmed + sure,
        confirms_settled=not doubtful,
    )


def _doubtful(
    pages: Iterable[Sequence[str]], listing: Listing, apart: Collection[str], canonical: Callable[[str], str]
) -> tuple[int, set[int]]:
    """How many settled ids there are, and hashes of those that the list may not confirm."""
    settled, ids = 0, IdSet()
    for page in pages:
        ids.update(map(canonical, page))
        settled += len(page)
    return settled, set(itertools.islice(listing.unconfirmed(ids, apart), MAX_DOUBTFUL))
