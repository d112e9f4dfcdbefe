"""How a target is asked: item by item, or by its list first; and when a list is not to be believed. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from monitor.model import Cause

AUTO_LIST_THRESHOLD = 50
"""Due items up to which `auto` asks one by one: a list costs more than so many requests."""

SAMPLE_SIZE = 20
"""How many of the ids that a list lacks are asked one by one before it is believed, and how many it may always lack."""

_MAX_MISSING_SHARE = 0.2


class Strategy(StrEnum):
    """What a target's `strategy` may be."""

    ITEMS = "items"
    LIST = "list"
    AUTO = "auto"


class ApproachReason(StrEnum):
    """The reason for an approach."""

    CONFIGURED = "configured"
    MANY_DUE = "many items are due"
    FEW_DUE = "few items are due"
    NO_LIST = "the API has no list"
    LIST_REFUSED = "the API refused the list"
    LIST_FAILED = "the list could not be had"
    LIST_UNREADABLE = "the list can't be read"
    LIST_WRONG = "the list lacks items that exist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """How a run went about its items, and why."""

    by_list: bool
    reason: ApproachReason
    detail: str = ""
    """For people, in our own words: what was wrong with the list."""


BY_ITEM = Approach(by_list=False, reason=ApproachReason.CONFIGURED)


def choose_approach(strategy: Strategy, *, has_list: bool, due: int) -> Approach:
    """Whether to begin with the list.

    Args:
        strategy: as configured.
        has_list: whether the provider has one.
        due: items that a run item by item would ask about.
    """
    if not has_list:
        return Approach(by_list=False, reason=ApproachReason.NO_LIST)
    if strategy is Strategy.AUTO:
        many = due > AUTO_LIST_THRESHOLD
        return Approach(by_list=many, reason=ApproachReason.MANY_DUE if many else ApproachReason.FEW_DUE)
    return Approach(by_list=strategy is Strategy.LIST, reason=ApproachReason.CONFIGURED)


def needs_sample(*, tracked: int, missing: int) -> bool:
    """Whether a list lacks so many of the tracked ids (over 20%, and over 20) that it has to be tried first."""
    return missing > SAMPLE_SIZE and missing > _MAX_MISSING_SHARE * tracked


def list_is_wrong(*, existing: int, absent: int) -> bool:
    """Whether a list is not to be believed, given what the API said of the sample that it lacks, one by one.

    A list is refuted by half of them: a few may have been uploaded just after it was made.

    Args:
        existing: those that the API showed.
        absent: those that it did not know either.
    """
    return existing > 0 and existing >= absent


_BLOCKS_ITEMS_TOO = frozenset({Cause.UNAUTHORIZED, Cause.SPENDING_LIMIT, Cause.RATE_LIMITED})


def list_failure_ends_run(strategy: Strategy, cause: Cause) -> bool:
    """Whether a list that could not be had ends the run, instead of going on item by item.

    With `auto` only what would meet each item as well: refused credentials, and limits, which more requests make worse.
    """
    return strategy is Strategy.LIST or cause in _BLOCKS_ITEMS_TOO
