"""Chooses which completed items a run asks about first. Pure."""

from collections.abc import Sequence

import msgspec


class CompletedItem(msgspec.Struct, frozen=True, kw_only=True):
    """A completed item that is checked again."""

    item_id: str
    seen_completed: bool
    """Whether the last run that asked about it saw it completed."""
    asked_run_id: int


def choose_first_items(given: Sequence[CompletedItem], *, count: int) -> tuple[str, ...]:
    """Chooses `count` (> 0) of the given items, evenly spread, to begin a run with.

    1. Items that the last run about them saw completed come first, so that a few items that always fail do not. Of
       these, those that the newest run did not ask about are preferred.
    2. Less than half of the places are for the others that were not asked about for longest, nor by the newest run:
       else runs that get only a few answers would ask the same few each time.
    3. If no item was seen completed, those that the newest run did not ask about: else one of these few could delay the
       end of an outage.
    """
    newest = max((each.asked_run_id for each in given), default=0)
    waiting = [each for each in given if each.asked_run_id != newest]
    seen = [each for each in given if each.seen_completed]
    if not seen:
        return _spread(waiting or given, count)
    lost = sorted((each for each in waiting if not each.seen_completed), key=lambda each: each.asked_run_id)
    others = [each.item_id for each in lost[: (count - 1) // 2]]
    best = [each for each in seen if each.asked_run_id != newest]
    if len(best) < count - len(others):
        best += [each for each in seen if each.asked_run_id == newest]
    return (*_spread(best, count - len(others)), *others)


def _spread(given: Sequence[CompletedItem], count: int) -> tuple[str, ...]:
    return tuple(each.item_id for each in given[:: max(1, len(given) // count)][:count])
