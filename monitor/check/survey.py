"""A list against the work list: how much of it the list names, and whose good standing it confirms. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from monitor.check.strategy import SAMPLE
from monitor.model import Standing
from monitor.providers import Listing

__all__ = ["Survey", "confirmed", "survey"]


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
