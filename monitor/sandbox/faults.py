"""Faults on demand: which calls are answered wrongly, and how. Pure matching; the plan counts what it has used."""

import random
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

__all__ = ["Fault", "FaultPlan", "read_fault"]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault: what it matches, and what is answered instead."""

    path: str = "/"
    """Prefix of the request's path."""
    method: str | None = None
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 503
    body: Any = None
    """A JSON value, or text that is sent as it is; None sends an empty body."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How many calls it hits; None for all."""
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Share of the matching calls that it hits, from 0 to 1."""
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    """How long the call is kept waiting first."""
    close: bool = False
    """Drop the connection without an answer."""
    passes: bool = False
    """Answer rightly after the delay."""


def read_fault(raw: object) -> Fault:
    """Reads a fault as the control endpoint gets it.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    try:
        return msgspec.convert(raw, Fault)
    except msgspec.ValidationError as error:
        known = ", ".join(Fault.__struct_fields__)
        raise ValueError(f"that is no fault: {error}; a fault has {known}") from None


class FaultPlan:
    """The faults in force, in the order in which they were added; the first that hits a call is its own."""

    def __init__(self, seed: int = 0) -> None:
        self._faults: list[Fault] = []
        self._left: list[int | None] = []
        self._random = random.Random(seed)  # noqa: S311  # which calls a share hits is no secret

    def add(self, fault: Fault) -> None:
        """Puts one more fault in force."""
        self._faults.append(fault)
        self._left.append(fault.count)

    def clear(self) -> None:
        """Ends all faults."""
        self._faults.clear()
        self._left.clear()

    def hit(self, method: str, path: str) -> Fault | None:
        """The fault that this call meets, or None; a counted one is used up by one."""
        for n, fault in enumerate(self._faults):
            if self._left[n] == 0 or not path.startswith(fault.path) or fault.method not in {None, method}:
                continue
            if fault.share < 1 and self._random.random() >= fault.share:
                continue
            left = self._left[n]
            self._left[n] = None if left is None else left - 1
            return fault
        return None
