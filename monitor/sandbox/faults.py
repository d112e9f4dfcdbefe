"""Faults on demand: which requests get a wrong answer, and which. Pure matching; the plan counts what it has used."""

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
    """One fault: what it matches, and what it answers."""

    path: Annotated[str, msgspec.Meta(pattern="^/")] = "/"
    """Prefix of the request's path."""
    method: str | None = None
    """In either case; None for all."""
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 503
    body: Any = None
    """A JSON value; text or bytes are sent as they are; None sends an empty body."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Added to the answer, or replacing its own; not those that frame the body."""
    count: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How many requests it affects; None for all."""
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    for_s: Annotated[float, msgspec.Meta(gt=0, le=31_536_000)] | None = None
    """How long it is active; None until it is cleared."""
    delay_s: Seconds = 0.0
    fades: bool = False
    """The delay shrinks evenly to nothing while the fault is active."""
    drip: Annotated[float, msgspec.Meta(ge=1, le=1e9)] | None = None
    """The body is sent at this many bytes per second, on a separate connection."""
    drip_headers: bool = False
    cut_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Drop the connection after this many bytes of the body, at the latest before its last byte."""
    close: bool = False
    """Drop the connection without an answer."""
    expires: bool = False
    """Every issued token expires before the request is handled."""
    passes: bool = False
    """Answer correctly, with the delay and the headers; status and body are then ignored."""

    def content(self) -> tuple[bytes, str]:
        """The body and its media type."""
        if isinstance(self.body, bytes | str):
            return self.body.encode() if isinstance(self.body, str) else self.body, "text/html"
        return b"" if self.body is None else msgspec.json.encode(self.body), "application/json"

    @property
    def needs_raw_write(self) -> bool:
        """Whether the answer bypasses the server, because it is slow or incomplete."""
        return self.drip is not None or self.cut_after is not None


def read_fault(raw: object) -> Fault:
    """Reads a fault from the control endpoint. Raises ValueError with one sentence about what is wrong."""
    fault = to_struct(raw, Fault, "fault")
    problem = _wrong_header(fault) or _contradiction(fault) or _wrong_body(fault)
    if problem:
        raise ValueError(f"invalid fault: {problem}")
    return fault


def _wrong_header(fault: Fault) -> str | None:
    for name, value in fault.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            return f"the header {name!r} or its value is not valid in HTTP"
        if name.lower() in _FRAMING_HEADERS:
            return f"the header {name!r} frames the body and is set by the sandbox"
    return None


def _wrong_body(fault: Fault) -> str | None:
    try:
        content, _ = fault.content()
    except (TypeError, ValueError):
        return "its body is neither a JSON value nor a text"
    if content and fault.status in {204, 304}:
        return f"an answer with status {fault.status} has no body"
    wanted = fault.cut_after is not None or (fault.drip is not None and not fault.drip_headers)
    if wanted and not content and not fault.passes:
        return "it has no body to drip or cut"
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
    """The faults in force, oldest first; the first that hits a call applies. `seed` decides what a share hits."""

    def __init__(self, seed: int = 0) -> None:
        self._active: list[_ActiveFault] = []
        self._random = random.Random(seed)  # noqa: S311  # which calls a share hits is no secret

    def add(self, fault: Fault, now_s: float = 0.0) -> None:
        """Activates a fault from `now_s` on (seconds on a monotonic clock)."""
        self._active.append(_ActiveFault(fault=fault, since_s=now_s, remaining=fault.count))

    def clear(self) -> None:
        """Ends all faults."""
        self._active.clear()

    def match_request(self, method: str, path: str, now_s: float = 0.0) -> Fault | None:
        """The fault for a request at `now_s`, or None; it uses up one count."""
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
    """A fault with a name; `about` says in a few words what it does."""

    about: str
    fields: Mapping[str, Any] = field(default_factory=dict)


PRESETS: Mapping[str, Preset] = {
    "html502": Preset(
        about="a gateway's own 502, in HTML",
        fields={"status": 502, "body": responses.BAD_GATEWAY, "headers": {"Server": "nginx", "Via": "1.1 google"}},
    ),
    "spending-limit": Preset(
        about="429 SPENDING_LIMIT_EXCEEDED, which claims to be retryable",
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
    "slow": Preset(about="a correct answer after 2 s", fields={"passes": True, "delay_s": 2.0}),
    "slow-start": Preset(
        about="correct answers after 5 s, getting faster; without delay after a minute",
        fields={"passes": True, "delay_s": 5.0, "for_s": 60.0, "fades": True},
    ),
    "hang": Preset(about="no answer for an hour", fields={"status": 504, "delay_s": 3600.0}),
    "token-storm": Preset(
        about="one request in five expires every issued token",
        fields={"passes": True, "expires": True, "path": "/engine", "share": 0.2},
    ),
}
"""In addition, each status from 200 to 599 is a name, with the body from Gloo's error reference."""

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
"""The field of `Fault` by key. In addition, `header.NAME` sets a header."""

_INTEGER_FIELDS = frozenset({"status", "count", "cut_after"})
_FLOAT_FIELDS = frozenset({"share", "drip"})
_DURATION_FIELDS = frozenset({"for_s", "delay_s"})
_HEADER = "header."


def parse_fault(text: str) -> Fault:
    """Reads a fault by name. Raises ValueError with one sentence about what is wrong."""
    preset, _, rest = text.partition(":")
    fields: dict[str, Any] = {**_fields_by_name(preset.strip())}
    headers = dict(fields.get("headers", {}))
    for pair in rest.split(",") if rest else ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(f"{pair.strip()!r} is not key=value: write a fault as NAME[:key=value,…]")
        if key.startswith(_HEADER):
            headers[key.removeprefix(_HEADER)] = value
        else:
            if key not in KEYS:
                hint = _suggestion(key, list(KEYS))
                raise ValueError(f"unknown key {key!r} of a fault{hint}: use {', '.join(KEYS)}, header.NAME")
            fields[KEYS[key]] = _value(key, KEYS[key], value)
    return read_fault({**fields, "headers": headers})


def _fields_by_name(name: str) -> Mapping[str, Any]:
    if name.isascii() and name.isdecimal() and 200 <= int(name) <= 599:
        return {"status": int(name), "body": responses.BY_STATUS.get(int(name))}
    if name in PRESETS:
        return PRESETS[name].fields
    known = f"a status from 200 to 599, {', '.join(PRESETS)}"
    raise ValueError(f"unknown fault {name!r}{_suggestion(name, list(PRESETS))}: use {known}")


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
        raise ValueError(f"{key}={text} of a fault must be {what}") from None
