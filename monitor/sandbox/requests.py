"""Requests to the sandbox from the control endpoint or a scenario, as structs. Pure."""

from typing import Annotated, TypeVar

import msgspec

MAX_CREATED = 1_000_000

T = TypeVar("T", bound=msgspec.Struct)


class ItemBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Items to create."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_CREATED)] = 1
    status: str | None = None
    filename: str = "made.txt"
    publisher_id: str | None = None


class ItemUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change to one item; with status None it walks through the stages."""

    status: str | msgspec.UnsetType | None = msgspec.UNSET
    publisher_id: str | msgspec.UnsetType = msgspec.UNSET


class ItemSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Items with a text in their filename, oldest first; without a count all of them."""

    filename: str = ""
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None


class StatusChange(ItemSelection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A status for several items; with None they walk through the stages."""

    status: str | None = None


class RateChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new rate limit for `parse_rate`; None ends it."""

    rate: str | None


def to_struct(raw: object, kind: type[T], what: str) -> T:
    """Converts decoded JSON or TOML. Raises ValueError with one sentence, in which `what` is the struct's name."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(kind))
        raise ValueError(f"invalid {what}: {error}; the keys are {known}") from None
