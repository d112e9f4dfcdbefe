"""Faults on demand: which calls are answered wrongly, and how. Pure matching; the plan counts what it has used."""

import difflib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from monitor.model.durations import parse_duration
from monitor.sandbox import responses
from monitor.sandbox.requests import to_struct

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding", "connection"})

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


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
    for_s: Annotated[float, msgspec.Meta(gt=0, le=31_536_000)] | None = None
    """How long it is in force; None until it is cleared."""
    delay_s: Seconds = 0.0
    """How long the call is kept waiting first."""
    fades: bool = False
    """The delay shrinks evenly to nothing while the fault is in force."""
    drip: Annotated[float, msgspec.Meta(ge=1, le=1e9)] | None = None
    """The body comes at this many bytes per second, on a connection of its own."""
    drip_headers: bool = False
    """The headers come as slowly as the body."""
    cut_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Drop the connection after this many bytes of the body, or before its last byte if it is no longer."""
    close: bool = False
    """Drop the connection without an answer."""
    expires: bool = False
    """Every issued token expires before the call is looked at."""
    passes: bool = False
    """Answer rightly after the delay, with the headers added; status and body say nothing then."""

    def content(self) -> tuple[bytes, str]:
        """What it sends as a body, and the media type of that."""
        if isinstance(self.body, bytes):
            return self.body, "text/html"
        if isinstance(self.body, str):
            return self.body.encode(), "text/html"
        return b"" if self.body is None else msgspec.json.encode(self.body), "application/json"

    @property
    def needs_raw_write(self) -> bool:
        """Whether its answer can't be left to the server, as it comes slowly or not to its end."""
        return self.drip is not None or self.cut_after is not None


def read_fault(raw: object) -> Fault:
    """Reads a fault as the control endpoint gets it.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    fault = to_struct(raw, Fault, "fault")
    problem = _wrong_header(fault) or _contradiction(fault) or _wrong_body(fault)
    if problem:
        raise ValueError(f"that is no fault: {problem}")
    return fault


def _wrong_header(fault: Fault) -> str | None:
    for name, value in fault.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            return f"HTTP can't carry the header {name!r} with that value"
        if name.lower() in _FRAMING_HEADERS:
            return f"the header {name!r} frames the body, which is the sandbox's own affair"
    return None


def _wrong_body(fault: Fault) -> str | None:
    try:
        content, _ = fault.content()
    except (TypeError, ValueError):
        return "its body is neither a JSON value nor text"
    if content and fault.status in {204, 304}:
        return f"an answer with status {fault.status} has no body"
    wanted = fault.cut_after is not None or (fault.drip is not None and not fault.drip_headers)
    if wanted and not content and not fault.passes:
        return "it has no body that could drip or be cut"
    return None


def _contradiction(fault: Fault) -> str | None:
    if fault.close and (fault.passes or fault.needs_raw_write):
        return "it either closes or passes, drips and cuts"
    if fault.drip_headers and fault.drip is None:
        return "headers drip only with drip, the bytes per second"
    if fault.fades and (fault.for_s is None or not fault.delay_s):
        return "only a delay_s fades, and only over for_s"
    return None


@dataclass(slots=True, kw_only=True)
class _ActiveFault:
    fault: Fault
    since_s: float
    remaining: int | None

    def at(self, now_s: float) -> Fault | None:
        """The fault as it is at a moment; None once its time is over."""
        fault, lasts_s = self.fault, self.fault.for_s
        if lasts_s is None:
            return fault
        elapsed = (now_s - self.since_s) / lasts_s
        if elapsed >= 1:
            return None
        return msgspec.structs.replace(fault, delay_s=fault.delay_s * (1 - elapsed)) if fault.fades else fault


class FaultPlan:
    """The faults in force, in the order in which they were added; the first that hits a call is its own.

    Args:
        seed: decides which calls a share hits: the same ones each time.
    """

    def __init__(self, seed: int = 0) -> None:
        self._active: list[_ActiveFault] = []
        self._random = random.Random(seed)  # noqa: S311  # which calls a share hits is no secret

    def add(self, fault: Fault, now_s: float = 0.0) -> None:
        """Puts one more fault in force, from a moment (seconds on a steady clock) on."""
        self._active.append(_ActiveFault(fault=fault, since_s=now_s, remaining=fault.count))

    def clear(self) -> None:
        """Ends all faults."""
        self._active.clear()

    def match_request(self, method: str, path: str, now_s: float = 0.0) -> Fault | None:
        """The fault that this call meets at a moment, or None; a counted one is used up by one."""
        for each in self._active:
            fault = each.at(now_s)
            if fault is None or each.remaining == 0 or not path.startswith(fault.path):
                continue
            if (fault.method or method).upper() != method:
                continue
            if fault.share < 1 and self._random.random() >= fault.share:
                continue
            each.remaining = None if each.remaining is None else each.remaining - 1
            return fault
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A fault that has a name."""

    about: str
    """What it does, in a few words."""
    fields: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "html502": Preset(
        about="a gateway's own 502, in HTML",
        fields={"status": 502, "body": responses.BAD_GATEWAY, "headers": {"Server": "nginx", "Via": "1.1 google"}},
    ),
    "spending-limit": Preset(
        about="429 SPENDING_LIMIT_EXCEEDED, which says retryable and is not",
        fields={"status": 429, "body": responses.SPENDING_LIMIT},
    ),
    "drop": Preset(about="the connection drops before any answer", fields={"close": True}),
    "cut-headers": Preset(about="the connection drops after the headers", fields={"passes": True, "cut_after": 0}),
    "cut-body": Preset(about="the connection drops in the body", fields={"passes": True, "cut_after": 20}),
    "drip": Preset(about="the body comes at 20 bytes per second", fields={"passes": True, "drip": 20.0}),
    "drip-headers": Preset(
        about="headers and body come at 20 bytes per second",
        fields={"passes": True, "drip": 20.0, "drip_headers": True},
    ),
    "slow": Preset(about="a right answer after 2 s", fields={"passes": True, "delay_s": 2.0}),
    "slow-start": Preset(
        about="right answers after 5 s at first, after nothing a minute later",
        fields={"passes": True, "delay_s": 5.0, "for_s": 60.0, "fades": True},
    ),
    "hang": Preset(about="no answer for an hour", fields={"status": 504, "delay_s": 3600.0}),
    "token-storm": Preset(
        about="one call in five finds that every issued token has expired",
        fields={"passes": True, "expires": True, "path": "/engine", "share": 0.2},
    ),
}
"""Besides these, each status from 200 to 599 is a name: it has the body that Gloo's error reference shows for it."""

KEYS: Mapping[str, str] = {
    "path": "path",
    "method": "method",
    "status": "status",
    "count": "count",
    "share": "share",
    "for": "for_s",
    "delay": "delay_s",
    "drip": "drip",
    "cut": "cut_after",
}
"""By key: the field of `Fault`. Besides these, `header.NAME` sets a header."""

_INTEGER_FIELDS = frozenset({"status", "count", "cut_after"})
_FLOAT_FIELDS = frozenset({"share", "drip"})
_DURATION_FIELDS = frozenset({"for_s", "delay_s"})
_HEADER = "header."


def parse_fault(text: str) -> Fault:
    """Reads a fault by name.

    Raises:
        ValueError: with one sentence about what is wrong.
    """
    preset, _, rest = text.partition(":")
    fields: dict[str, Any] = {**_fields_by_name(preset.strip())}
    headers = dict(fields.get("headers", {}))
    for pair in rest.split(",") if rest else ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(f"{pair.strip()!r} is no key=value; write a fault as NAME[:key=value,…]")
        if key.startswith(_HEADER):
            headers[key.removeprefix(_HEADER)] = value
        else:
            name = _field(key)
            fields[name] = _value(key, name, value)
    return read_fault({**fields, "headers": headers})


def _fields_by_name(name: str) -> Mapping[str, Any]:
    if name.isascii() and name.isdecimal() and 200 <= int(name) <= 599:
        status = int(name)
        return {"status": status, "body": responses.BY_STATUS.get(status)}
    if name in PRESETS:
        return PRESETS[name].fields
    known = f"a status from 200 to 599, {', '.join(PRESETS)}"
    raise ValueError(f"there is no fault named {name!r}{_suggestion(name, list(PRESETS))}; there are {known}")


def _field(key: str) -> str:
    if key not in KEYS:
        raise ValueError(
            f"there is no key {key!r}{_suggestion(key, list(KEYS))}; there are {', '.join(KEYS)}, header.NAME"
        )
    return KEYS[key]


def _suggestion(given: str, known: Sequence[str]) -> str:
    close_matches = difflib.get_close_matches(given, known, n=1)
    return f" (did you mean {close_matches[0]}?)" if close_matches else ""


def _value(key: str, name: str, text: str) -> object:
    try:
        if name in _INTEGER_FIELDS:
            return int(text)
        if name in _FLOAT_FIELDS:
            return float(text)
        return parse_duration(text).total_seconds() if name in _DURATION_FIELDS else text
    except ValueError:
        what = 'a duration such as "30s"' if name in _DURATION_FIELDS else "a number"
        raise ValueError(f"{key}={text} of a fault wants {what}") from None
