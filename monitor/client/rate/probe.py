"""Finds the rate of an API that only answers 429, or 503 without a hint: slower after a refusal, then back. Pure.

Several processes may use one credential. Each takes a *part* of the rate: the curve is of the whole, and all follow it.
"""

import math

import msgspec

_MIN_PER_S = 1.0
_INITIAL_RECOVERY_S = 5.0
_MAX_RECOVERY_S = 120.0
_BACKOFF_FACTOR = 0.95
_PLATEAU_FACTOR = 0.97
_EASED_FACTOR = 0.985
_MAX_OVER_SUSTAINED = 1.25
_CURVATURE = 0.2
_MAX_PROGRESS = 10.0
_NEAR_PLATEAU = 0.9
_CLEAN_RUN_FACTOR = 1.25
_MAX_LEARNED_PER_S = 10_000.0
_MIN_LASTED_S = 5.0
_MAX_CHANGE = 2.0
SAME_CUT_S = 1.0
"""Until all processes know of a cut."""


class RateCut(msgspec.Struct, frozen=True, kw_only=True):
    """What a refusal taught: the curve that all processes with the credential follow. Rates are of all together."""

    at_s: float
    """When the curve begins, on the monotonic clock."""
    initial_per_s: float
    """The rate at its beginning (> 0)."""
    plateau_per_s: float
    """The rate at which it is flat (at least the initial one)."""
    recovery_s: float
    """When it is flat, from its beginning."""


_HALF_LIFE_S = 1.0
_DEVIATIONS = 0.5
_LARGE_CUT = 0.97
_EASED_SHARE, _MAX_EASED = 0.8, 0.5
_BACK_FACTOR = 1.04
_LARGE_RECOVERY_S = 20.0
_SEEN_S = 10.0


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were answered; `refused`: by a 503 that is taken for a limit's."""

    accepted: int = 0
    refused: int = 0


class _RefusedShare:
    """The share of the requests of all processes that was refused in the last seconds: older ones count less."""

    def __init__(self) -> None:
        self._requests = self._refused = 0.0
        self._at_s = -math.inf

    def add(self, now_s: float, counts: RequestCounts) -> None:
        faded = 0.5 ** ((now_s - self._at_s) / _HALF_LIFE_S) if self._at_s > -math.inf else 0.0
        self._requests = counts.accepted + counts.refused + faded * self._requests
        self._refused, self._at_s = counts.refused + faded * self._refused, now_s

    @property
    def least(self) -> float:
        """What it is at least (0 to below 1), since it is known from a few requests."""
        return max(0.0, self._refused - _DEVIATIONS * math.sqrt(self._refused)) / max(1.0, self._requests)


class CubicProbe:
    """Finds the rate of an API that only answers 429: slower after a refusal, then a cubic curve back and beyond (RFC
    9438).
    """

    def __init__(self, learned_per_s: float | None) -> None:
        """Begins on a plateau (> 0), or with None: without a limit."""
        self.plateau_per_s = self._initial_per_s = learned_per_s
        self._curve_start_s = math.inf
        self._recovery_s = _INITIAL_RECOVERY_S
        self._limited = self._probe_unsent = self._is_pause = False
        self._refused_at_per_s = _MIN_PER_S
        self._in_flight_before = 0
        self._counted_s = self._start_s = -math.inf
        self._counted = self._accepted = 0.0
        self._measured_per_s = self._fastest_per_s = 0.0
        self._was_accepted = self._was_refused = False
        self._part, self._leads, self._settled_s = 1.0, True, -math.inf
        self._answers = self._refusals = 0
        self._any_503 = False
        self._share, self._share_from_s = _RefusedShare(), -math.inf
        self._all_accepted, self._all_from_s = 0, -math.inf
        self.last_cut: RateCut | None = None
        """The newest, here or elsewhere; None: nothing was refused since we began."""
        self.large_cuts = 0
        """Cuts so far, here or elsewhere, by more than a few percent."""

    def set_part(self, part: float, now_s: float, *, leads: bool = True) -> None:
        """Takes a part (above 0, at most 1) of the rate from now on. Of all that have a part one `leads`: it decides
        what refusals teach, and the others follow it.
        """
        self._leads = leads
        if part != self._part and self._counted_s > -math.inf:
            self._counted_s, self._counted = now_s, 0.0  # what was counted stood for another part
        if max(part, self._part) > _MAX_CHANGE * min(part, self._part):
            self._settled_s = now_s + SAME_CUT_S
        self._part = part

    def adopt(self, cut: RateCut, *, in_flight: int) -> None:
        """Follows the curve of another process, unless ours is newer: requests in flight may be refused for the same
        reason. Of two at about the same time the higher one counts, since a process that got less than its part takes
        the whole for too low.
        """
        ours = self.last_cut
        follows = self._judges_together and not self._leads
        if ours is not None and not follows and abs(cut.at_s - ours.at_s) < SAME_CUT_S:
            if cut.plateau_per_s <= ours.plateau_per_s:
                return
        elif ours is not None and cut.at_s < ours.at_s:
            return
        self._was_refused = True
        self._limited = self._probe_unsent = self._is_pause = False
        self._in_flight_before = in_flight
        self._start_s, self._accepted = cut.at_s, 0.0
        self._follow(cut, cut.at_s)

    @property
    def learned_per_s(self) -> float | None:
        """The plateau for a later run to begin with. One without a refusal raises it by a quarter, or to what it saw
        accepted, so that a limit that was lifted is found out by and by.
        """
        if self.plateau_per_s is None or self._was_refused or not self._was_accepted:
            return self.plateau_per_s
        return max(min(_CLEAN_RUN_FACTOR * self.plateau_per_s, _MAX_LEARNED_PER_S), self._fastest_per_s)

    def per_s(self, now_s: float) -> float | None:
        """Requests per second of all processes (≥ 1, unless less was learned); None: no limit was met."""
        if self._limited:
            return min(_MIN_PER_S / self._part, self._refused_at_per_s)
        return self._curve(now_s)

    def started(self, now_s: float, in_flight: int) -> None:
        """A request starts."""
        if self._curve_start_s == math.inf:
            self._curve_start_s = now_s - self._recovery_s
        if self._probe_unsent:
            self._probe_unsent, self._in_flight_before = False, in_flight
        self._in_flight_before = min(self._in_flight_before, in_flight)

    def accepted(self, now_s: float) -> None:
        """A request was accepted."""
        if now_s - self._counted_s >= 1.0:
            self._measured_per_s = self._counted / (now_s - self._counted_s)
            self._fastest_per_s = max(self._fastest_per_s, self._measured_per_s)
            self._counted_s, self._counted = now_s, 0.0
            if self._start_s == -math.inf:
                self._start_s = now_s
        self._was_accepted = True
        self._count(now_s, refused=False)
        self._counted += 1 / self._part
        self._accepted += 1 / self._part
        if self._in_flight_before:
            self._in_flight_before -= 1
        elif self._limited and not self._probe_unsent:
            self._resume(now_s)

    def refused(self, now_s: float, *, by_503: bool = False) -> None:
        """A request was refused."""
        self._was_refused = True
        self._any_503 = self._any_503 or by_503
        self._count(now_s, refused=by_503)
        if self._in_flight_before:
            self._in_flight_before -= 1
        elif not self._limited:
            rate, seen = self._curve(now_s), max(self._measured_per_s, self._counted, _MIN_PER_S)
            if rate and self._judges_together:
                self._ease(rate, now_s)
                return
            self._is_pause = self._is_unsettled(now_s) or (self._judges_together and not self._leads)
            self._refused_at_per_s = rate if rate and (self._is_pause or rate < seen) else seen
            if self._judges_together:
                self._refused_at_per_s = max(seen, self._all_seen(now_s))
            if rate and self.plateau_per_s and not self._is_pause:
                near_plateau = rate >= _NEAR_PLATEAU * self.plateau_per_s
                self._recovery_s = min(2 * self._recovery_s, _MAX_RECOVERY_S) if near_plateau else _INITIAL_RECOVERY_S
            self._limited = self._probe_unsent = True

    def refused_once(self, now_s: float, *, started_s: float) -> None:
        """A request that started then was refused among many accepted ones: a little slower, without a pause."""
        rate, was_in_flight = self._curve(now_s), started_s < self._curve_start_s  # at the last refusal
        if self._limited or rate is None:
            self.refused(now_s, by_503=True)
            return
        self._any_503 = True
        self._count(now_s, refused=True)
        if not was_in_flight:
            self._ease(rate, now_s)

    def _ease(self, rate: float, now_s: float) -> None:
        """Slows down by what is too much, and a little more."""
        if not self._leads or self._is_unsettled(now_s):
            return
        factor = _EASED_FACTOR - min(_EASED_SHARE * self._share.least, _MAX_EASED)
        eased = plateau = max(factor * rate, _MIN_PER_S)
        recovery_s = min(2 * self._recovery_s, _MAX_RECOVERY_S)
        if factor < _LARGE_CUT:
            plateau, recovery_s = _BACK_FACTOR * eased, max(recovery_s, _LARGE_RECOVERY_S)
        self._follow(RateCut(at_s=now_s, initial_per_s=eased, plateau_per_s=plateau, recovery_s=recovery_s), now_s)

    def add_others(self, counts: RequestCounts, now_s: float) -> None:
        """Other processes had these answers lately."""
        self._any_503 = self._any_503 or counts.refused > 0
        self._add(counts, now_s)
        rate = self._curve(now_s)
        if not counts.refused or self._limited or not self._judges_together or now_s < self._share_from_s:
            return
        if rate is not None:
            self._ease(rate, now_s)
        elif self._leads:
            self._refused_at_per_s = max(self._all_seen(now_s), _MIN_PER_S)
            self._follow(self._first_cut(now_s), now_s)

    def _first_cut(self, now_s: float) -> RateCut:
        """What all together saw accepted since they began."""
        seen = self._refused_at_per_s
        return RateCut(at_s=now_s, initial_per_s=seen, plateau_per_s=seen, recovery_s=_INITIAL_RECOVERY_S)

    def _all_seen(self, now_s: float) -> float:
        return self._all_accepted / max(now_s - self._all_from_s, 1.0)

    def lift(self, now_s: float) -> None:
        """There is no limit after all: those that follow hear of it."""
        self._limited = False
        most = _MAX_LEARNED_PER_S
        self._follow(RateCut(at_s=now_s, initial_per_s=most, plateau_per_s=most, recovery_s=_MAX_RECOVERY_S), now_s)

    @property
    def counts(self) -> RequestCounts:
        """Our own answers so far."""
        return RequestCounts(accepted=self._answers - self._refusals, refused=self._refusals)

    def _count(self, now_s: float, *, refused: bool) -> None:
        self._answers += 1
        self._refusals += refused
        if self._part < 1:
            self._add(RequestCounts(accepted=not refused, refused=refused), now_s)

    @property
    def _judges_together(self) -> bool:
        """Whether one process judges for all: 503s without a hint may also be an outage, so each refusal counts."""
        return self._any_503 and self._part < 1

    def _add(self, counts: RequestCounts, now_s: float) -> None:
        if self._part == 1:
            return
        if now_s - self._all_from_s > _SEEN_S:
            self._all_accepted, self._all_from_s = 0, now_s
        self._all_accepted += counts.accepted
        if now_s >= self._share_from_s:
            self._share.add(now_s, counts)

    def _is_unsettled(self, now_s: float) -> bool:
        """Whether other processes may not know of the last cut, or of our part, yet."""
        if self._part == 1:
            return False
        return now_s < self._settled_s or (self.last_cut is not None and now_s - self.last_cut.at_s < SAME_CUT_S)

    def _resume(self, now_s: float) -> None:
        self._limited = False
        if self._is_pause:
            return
        lasted_s = now_s - self._start_s
        # of a short time with pauses a part says little about all
        sustained = self._accepted / max(lasted_s, 1.0) if self._part == 1 or lasted_s >= _MIN_LASTED_S else math.inf
        initial = max(min(_BACKOFF_FACTOR * self._refused_at_per_s, sustained), _MIN_PER_S)
        plateau = max(min(_PLATEAU_FACTOR * self._refused_at_per_s, _MAX_OVER_SUSTAINED * sustained), initial)
        self._start_s, self._accepted = now_s, 0.0
        cut = RateCut(at_s=now_s, initial_per_s=initial, plateau_per_s=plateau, recovery_s=self._recovery_s)
        self._follow(self._first_cut(now_s) if self._judges_together else cut, now_s)

    def _follow(self, cut: RateCut, now_s: float) -> None:
        rate = self._curve(now_s)
        if rate is None or cut.plateau_per_s < _LARGE_CUT * rate:
            self.large_cuts += 1
            self._share, self._share_from_s = _RefusedShare(), now_s + SAME_CUT_S
        self.last_cut = cut
        self._initial_per_s, self.plateau_per_s = cut.initial_per_s, cut.plateau_per_s
        self._curve_start_s, self._recovery_s = cut.at_s, cut.recovery_s

    def _curve(self, now_s: float) -> float | None:
        if self.plateau_per_s is None or self._initial_per_s is None:
            return None
        progress = (now_s - self._curve_start_s) / self._recovery_s if self._curve_start_s < math.inf else 1.0
        if progress < 1:
            return self.plateau_per_s - (self.plateau_per_s - self._initial_per_s) * (1 - progress) ** 3
        return self.plateau_per_s * (1 + _CURVATURE * min(progress - 1, _MAX_PROGRESS) ** 3)
