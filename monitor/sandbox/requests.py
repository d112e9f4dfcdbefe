"""What is asked of the sandbox by hand, by its control endpoint or by a scenario, read into its shape. Pure."""

from typing import Annotated, TypeVar

import msgspec

MAX_CREATED = 1_000_000

T = TypeVar("T", bound=msgspec.Struct)


class ItemBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Items to be made."""

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_CREATED)] = 1
    status: str | None = None
    filename: str = "made.txt"
    publisher_id: str | None = None


class ItemUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one item is made to be; a status of None lets it walk."""

    status: str | msgspec.UnsetType | None = msgspec.UNSET
    publisher_id: str | msgspec.UnsetType = msgspec.UNSET


class ItemSelection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which items: those with a text in their filename, in the order in which they came; None for all of them."""

    filename: str = ""
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None


class StatusChange(ItemSelection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A status for several items; None lets them walk."""

    status: str | None = None


class RateChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new rate limit, written as `quota.parse_rate` reads it; None ends it."""

    rate: str | None


def to_struct(raw: object, kind: type[T], what: str) -> T:
    """Reads what was asked.

    Args:
        raw: as JSON or TOML gave it.
        kind: the shape.
        what: what a person calls that shape.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(kind))
        raise ValueError(f"that is no {what}: {error}; a {what} has {known}") from None
