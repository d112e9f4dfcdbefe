"""Simulates servers with rate limits and a client with a `RateLimiter` in virtual time: no sockets, clocks or waiting.

A run is a list of events in order of time. Random numbers come from a seed, so a run is reproducible.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from monitor.client.rate.headers import RateLimitHeaderReader
from monitor.client.retry_after import parse_retry_after

EPOCH_S = 1_772_366_400.0
"""Virtual second 0 in Unix seconds: Sunday, 1 March 2026, noon."""


@dataclass(kw_only=True)
class Fixed:
    """`limit` requests per window of `window_s`; windows begin `offset_s` after its multiples."""

    limit: int
    window_s: float
    offset_s: float = 0.0
    used: int = 0
    began_s: float = -math.inf

    def take(self, at_s):
        began_s = math.floor((at_s - self.offset_s) / self.window_s) * self.window_s + self.offset_s
        if began_s > self.began_s:
            self.began_s, self.used = began_s, 0
        allowed = self.used < self.limit
        self.used += allowed
        return allowed

    def left(self, at_s):
        return self.limit - self.used

    def reset_s(self, at_s):
        return self.began_s + self.window_s

    def next_s(self, at_s):
        return self.reset_s(at_s)


@dataclass(kw_only=True)
class Sliding:
    """`limit` requests in any period of `window_s`; the reset is when the oldest leaves the log."""

    limit: int
    window_s: float
    log: deque = field(default_factory=deque)

    def take(self, at_s):
        while self.log and self.log[0] <= at_s - self.window_s:
            self.log.popleft()
        allowed = len(self.log) < self.limit
        if allowed:
            self.log.append(at_s)
        return allowed

    def left(self, at_s):
        return self.limit - len(self.log)

    def reset_s(self, at_s):
        return (self.log[0] if self.log else at_s) + self.window_s

    next_s = reset_s


@dataclass(kw_only=True)
class Bucket:
    """Adds tokens evenly, `per_s`, up to `limit`; the reset is when the bucket is full, or the next token."""

    limit: int
    per_s: float
    until: str = "full"
    tokens: float = -1.0
    since_s: float = 0.0

    def take(self, at_s):
        if self.tokens < 0:
            self.tokens = float(self.limit)
        self.tokens = min(self.limit, self.tokens + (at_s - self.since_s) * self.per_s)
        self.since_s = at_s
        allowed = self.tokens >= 1 - 1e-9
        self.tokens -= allowed
        return allowed

    def left(self, at_s):
        return max(0, math.floor(self.tokens + 1e-9))

    def reset_s(self, at_s):
        if self.until == "full":
            return at_s + (self.limit - self.tokens) / self.per_s
        return self.next_s(at_s)

    def next_s(self, at_s):
        return at_s + max(0.0, math.floor(self.tokens + 1e-9) + 1 - self.tokens) / self.per_s


def unix(server, at_s):
    return {"x-ratelimit-reset": str(math.ceil(EPOCH_S + server.reset_s(at_s) - 1e-9))}


def delta(server, at_s):
    return {"x-ratelimit-reset": str(max(1, math.ceil(server.reset_s(at_s) - at_s - 1e-9)))}


def duration(server, at_s):
    return {"x-ratelimit-reset": f"{max(1, math.ceil((server.reset_s(at_s) - at_s) * 1000))}ms"}


def no_reset(server, at_s):
    return {}


@dataclass(kw_only=True)
class Api:
    """A server and the headers it sends: all three and `Retry-After`, only the latter, or none."""

    server: Fixed | Sliding | Bucket
    says: str = "all"
    reset: Callable[[object, float], Mapping[str, str]] = unix
    _date: tuple[int, str] = (-1, "")

    def answer(self, at_s):
        """Status and headers."""
        allowed = self.server.take(at_s)
        headers = {"date": self._dated(at_s)}
        if not allowed and self.says != "nothing":
            headers["retry-after"] = str(max(1, math.ceil(self.server.next_s(at_s) - at_s - 1e-9)))
        if self.says == "all":
            headers["x-ratelimit-limit"] = str(self.server.limit)
            headers["x-ratelimit-remaining"] = str(self.server.left(at_s))
            headers |= self.reset(self.server, at_s)
        return (200 if allowed else 429), headers

    def _dated(self, at_s):
        second = math.floor(EPOCH_S + at_s)
        if self._date[0] != second:
            self._date = (second, format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True))
        return self._date[1]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency in seconds, equal in both directions; each differs by at most `jitter`, and a few are slow."""

    round_s: float
    jitter: float = 0.2
    slow: float = 0.01

    def one_way_s(self, dice):
        way_s = self.round_s / 2 * (1 + self.jitter * (2 * dice.random() - 1))
        return way_s * 3 if dice.random() < self.slow else way_s


@dataclass(kw_only=True)
class Outcome:
    """When the server accepted or refused our requests and those of others, in virtual seconds."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    others_refused: list[float] = field(default_factory=list)

    answered: int = 0

    def per_s(self, from_s, to_s):
        return sum(from_s <= at_s < to_s for at_s in self.accepted) / (to_s - from_s)

    def refused_share(self, from_s):
        refused = sum(at_s >= from_s for at_s in self.refused)
        return refused / max(1, refused + sum(at_s >= from_s for at_s in self.accepted))


@dataclass(kw_only=True)
class Run:
    """`in_flight` workers that always have requests, for `lasts_s` from `start_s`."""

    api: Api
    limiter: object
    in_flight: int = 8
    first: int = 5
    """The most requests in flight before the first answer."""
    latency: Latency = Latency(round_s=0.05)
    lasts_s: float = 30.0
    start_s: float = 0.37
    others_per_s: float = 0.0
    pauses: tuple[tuple[float, float], ...] = ()
    seed: int = 1
    on_event: Callable[[float, Api], None] | None = None

    def __post_init__(self):
        self.dice = random.Random(self.seed)  # noqa: S311  # a simulation must repeat itself
        self.events, self.order = [], itertools.count()
        self.flying, self.held_until_s, self.probing, self.wake_s = 0, -math.inf, False, math.inf
        self.outcome, self.reader = Outcome(), RateLimitHeaderReader()

    def play(self):
        """Plays the run to its end."""
        self._at(self.start_s, self._start)
        for at_s, until_s in self.pauses:
            self._at(self.start_s + at_s, lambda now_s, until_s=until_s: self._pause(self.start_s + until_s))
        if self.others_per_s:
            self._at(self.start_s, self._other)
        end_s = self.start_s + self.lasts_s
        while self.events and self.events[0][0] < end_s:
            now_s, _, act = heapq.heappop(self.events)
            if self.on_event:
                self.on_event(now_s, self.api)
            act(now_s)
        return self.outcome

    def _at(self, at_s, act):
        heapq.heappush(self.events, (at_s, next(self.order), act))

    def _pause(self, until_s):
        self.held_until_s = max(self.held_until_s, until_s)

    def _other(self, now_s):
        allowed = self.api.answer(now_s)[0] == 200
        (self.outcome.others if allowed else self.outcome.others_refused).append(now_s)
        self._at(now_s + self.dice.expovariate(self.others_per_s), self._other)

    def _start(self, now_s):
        """Starts all requests that may start; otherwise wakes once, when the next one may."""
        if now_s >= self.wake_s - 1e-12:
            self.wake_s = math.inf
        while self.flying < (self.in_flight if self.outcome.answered else self.first):
            if self.probing and self.flying:
                return
            if now_s < self.held_until_s:
                self._wake(self.held_until_s)
                return
            wait_s = self.limiter.wait_s(now_s, self.flying)
            if wait_s > 0:
                self._wake(now_s + wait_s)
                return
            self.flying += 1
            self._at(now_s + self.latency.one_way_s(self.dice), lambda at_s: self._arrive(at_s, now_s))

    def _wake(self, at_s):
        if at_s < self.wake_s:
            self.wake_s = at_s
            self._at(at_s, self._start)

    def _arrive(self, now_s, sent_s):
        status, headers = self.api.answer(now_s)
        (self.outcome.accepted if status == 200 else self.outcome.refused).append(now_s)
        self._at(now_s + self.latency.one_way_s(self.dice), lambda at_s: self._reply(at_s, sent_s, status, headers))

    def _reply(self, now_s, sent_s, status, headers):
        self.flying -= 1
        self.outcome.answered += 1
        now = datetime.fromtimestamp(EPOCH_S + now_s, UTC)
        if status == 200:
            self.limiter.accepted(now_s)
            self.probing = self.probing and now_s < self.held_until_s
        else:
            self.limiter.refused(now_s)
            hint = parse_retry_after(headers, None, now=now, status=status)
            if hint:
                self.held_until_s, self.probing = max(self.held_until_s, now_s + hint.total_seconds()), True
        rate_limit = self.reader.read(headers, now)
        if rate_limit:
            self.limiter.observe(rate_limit, sent_s=sent_s, in_flight=self.flying)
        self._start(now_s)


@dataclass(kw_only=True)
class Fleet:
    """Runs against one server that take equal parts, unless told otherwise, and tell each other about hints and cuts.

    `exchange_s` is the time between two exchanges of each run; they take turns.
    """

    runs: list[Run]
    exchange_s: float = 0.5
    parts: Mapping[float, list[float]] = field(default_factory=dict)
    """The parts from a time on, in seconds after the start; a run with part 0 has ended."""

    def play(self):
        """Plays all runs to their end."""
        events, order, first = [], itertools.count(), self.runs[0]
        for number, run in enumerate(self.runs):
            run.events, run.order = events, order
            run.limiter.set_part(1 / len(self.runs), run.start_s)
            run._at(run.start_s + 0.013 * number, run._start)
            run._at(run.start_s + self.exchange_s * number / len(self.runs), self._exchange(run))
        for at_s, parts in self.parts.items():
            first._at(first.start_s + at_s, lambda now_s, parts=parts: self._divide(parts, now_s))
        end_s = first.start_s + first.lasts_s
        while events and events[0][0] < end_s:
            now_s, _, act = heapq.heappop(events)
            act(now_s)

    def per_s(self, from_s, to_s):
        return sum(run.outcome.per_s(from_s, to_s) for run in self.runs)

    def refused_share(self, from_s):
        refused = sum(at_s >= from_s for run in self.runs for at_s in run.outcome.refused)
        return refused / max(1, refused + sum(at_s >= from_s for run in self.runs for at_s in run.outcome.accepted))

    def _divide(self, parts, now_s):
        for run, part in zip(self.runs, parts, strict=True):
            if part:
                run.limiter.set_part(part, now_s)
                run._start(now_s)
            else:
                run.in_flight = run.first = 0

    def _exchange(self, run):
        def exchange(now_s):
            for other in self.runs:
                if other.held_until_s > max(now_s, run.held_until_s):
                    run.held_until_s, run.probing = other.held_until_s, True
                if other is not run and other.limiter.last_cut is not None:
                    run.limiter.adopt(other.limiter.last_cut, in_flight=run.flying)
            run._at(now_s + self.exchange_s, exchange)
            run._start(now_s)

        return exchange
