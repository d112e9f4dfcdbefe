"""Faults on demand: which calls are answered wrongly, and how. Pure matching; the plan counts what it has used."""

import random
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

__all__ = ["Fault", "FaultPlan", "read_fault", "shaped"]

T = TypeVar("T", bound=msgspec.Struct)

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault: what it matches, and what is answered instead."""

    path: Annotated[str, msgspec.Meta(pattern="^/")] = "/"
    """Prefix of the request's path."""
    method: str | None = None
    """In either case; None for all."""
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 503
    body: Any = None
    """A JSON value; text (or bytes), which is sent as it is; None sends an empty body."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Added to the answer; they replace its own, but for those that frame the body."""
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How many calls it hits; None for all."""
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """Share of the matching calls that it hits, from 0 to 1."""
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    """How long the call is kept waiting first."""
    close: bool = False
    """Drop the connection without an answer."""
    passes: bool = False
    """Answer rightly after the delay, with the headers added; status and body say nothing then."""

    def content(self) -> tuple[bytes, str]:
        """What it sends as a body, and the media type of that."""
        if isinstance(self.body, bytes):
            return self.body, "text/html"
        if isinstance(self.body, str):
            return self.body.encode(), "text/html"
        return b"" if self.body is None else msgspec.json.encode(self.body), "application/json"


def shaped(raw: object, kind: type[T], what: str) -> T:
    """Reads what the control endpoint gets.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(kind))
        raise ValueError(f"that is no {what}: {error}; a {what} has {known}") from None


def read_fault(raw: object) -> Fault:
    """Reads a fault as the control endpoint gets it.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    fault = shaped(raw, Fault, "fault")
    problem = _problem(fault)
    if problem:
        raise ValueError(f"that is no fault: {problem}")
    return fault


def _problem(fault: Fault) -> str | None:
    for name, value in fault.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            return f"HTTP can't carry the header {name!r} with that value"
        if name.lower() in _FRAMING:
            return f"the header {name!r} frames the body, which is the sandbox's own affair"
    try:
        content, _ = fault.content()
    except (TypeError, ValueError):
        return "its body is neither a JSON value nor text"
    if content and fault.status in {204, 304}:
        return f"an answer with status {fault.status} has no body"
    if fault.close and fault.passes:
        return "it either closes or passes"
    return None


class FaultPlan:
    """The faults in force, in the order in which they were added; the first that hits a call is its own.

    Args:
        seed: decides which calls a share hits: the same ones each time.
    """

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
        for n, (fault, left) in enumerate(zip(self._faults, self._left, strict=True)):
            if left == 0 or not path.startswith(fault.path) or (fault.method or method).upper() != method:
                continue
            if fault.share < 1 and self._random.random() >= fault.share:
                continue
            self._left[n] = None if left is None else left - 1
            return fault
        return None
