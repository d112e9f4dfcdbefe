"""Decides between the list and item by item, and when a list is wrong. Pure."""

from enum import StrEnum

import msgspec

from monitor.model import Cause

AUTO_LIST_THRESHOLD = 50
"""Up to this many due items, `auto` asks item by item: a list would cost more."""

SAMPLE_SIZE = 20
"""How many of the missing ids are asked about one by one to verify a list, and how many may always be missing."""

_MAX_MISSING_SHARE = 0.2


class Strategy(StrEnum):
    """The setting `strategy` of a target."""

    ITEMS = "items"
    LIST = "list"
    AUTO = "auto"


class ApproachReason(StrEnum):
    """Why a run used the list, or did not. The texts are shown to users."""

    CONFIGURED = "configured"
    MANY_DUE = "many items are due"
    FEW_DUE = "few items are due"
    NO_LIST = "the API has no list"
    LIST_REFUSED = "the API refused the list"
    LIST_FAILED = "the list could not be fetched"
    LIST_UNREADABLE = "the list can't be read"
    LIST_WRONG = "items that exist are missing from the list"


class Approach(msgspec.Struct, frozen=True, kw_only=True):
    """How a run checked its items, and why."""

    by_list: bool
    reason: ApproachReason
    detail: str = ""


BY_ITEM = Approach(by_list=False, reason=ApproachReason.CONFIGURED)


def choose_approach(strategy: Strategy, *, has_list: bool, due: int) -> Approach:
    """Whether to begin with the list, for a run in which `due` items need a request."""
    if not has_list:
        return Approach(by_list=False, reason=ApproachReason.NO_LIST)
    if strategy is Strategy.AUTO:
        many = due > AUTO_LIST_THRESHOLD
        return Approach(by_list=many, reason=ApproachReason.MANY_DUE if many else ApproachReason.FEW_DUE)
    return Approach(by_list=strategy is Strategy.LIST, reason=ApproachReason.CONFIGURED)


def needs_sample(*, tracked: int, missing: int) -> bool:
    """Whether so many tracked ids (over 20%, and over 20) are missing from the list that a sample must be checked."""
    return missing > SAMPLE_SIZE and missing > _MAX_MISSING_SHARE * tracked


def list_is_wrong(*, existing: int, absent: int) -> bool:
    """Whether a list is wrong, judged by a sample of the ids that are missing from it: at least half of it exists.

    A few may exist because they were uploaded after the list was made.
    """
    return existing > 0 and existing >= absent


_BLOCKS_ITEMS_TOO = frozenset({Cause.UNAUTHORIZED, Cause.SPENDING_LIMIT, Cause.RATE_LIMITED})


def list_failure_ends_run(strategy: Strategy, cause: Cause) -> bool:
    """Whether a failed list ends the run; otherwise the run continues item by item.

    With `auto`, only causes end it that would also affect each item: refused credentials, and limits.
    """
    return strategy is Strategy.LIST or cause in _BLOCKS_ITEMS_TOO
