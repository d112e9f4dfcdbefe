"""Signed requests: each attempt gets a signature of its own, made from keys that are read again when they change.

What a signature looks like, and where keys come from, is given by the caller (`app.aws`). No text contains a secret.
"""

import asyncio
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from monitor.client.auth import Credential, SecretSource, Send
from monitor.model.http import ApiError, Request

_RETRY_S = 5.0
"""Keys that can't be had, or were refused, are not asked for again before: every call of the run would do so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """A pair of keys, and the token that belongs to temporary ones."""

    key_id: str
    secret: str = dataclasses.field(repr=False)
    token: str | None = dataclasses.field(default=None, repr=False)


Sign = Callable[[Request, SigningKeys], Request]
"""A copy of a request with a signature of now over its method, path, host and body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The credential of a signed call."""

    keys: SigningKeys
    sign: Sign = dataclasses.field(repr=False)

    @property
    def secret(self) -> str:
        """What must not be shown; a token is registered by its reader."""
        return self.keys.secret

    def authorize(self, request: Request) -> Request:
        """The request, signed now: a repeat is not signed with the time of the first attempt."""
        return self.sign(request, self.keys)


class KeySource(Protocol):
    """Where keys come from."""

    next_check_s: float
    """Until then (monotonic seconds) the last keys serve."""

    async def read(self, now_s: float, *, renew: bool) -> SigningKeys | ApiError:
        """The keys at `now_s` (monotonic), or why there are none. `renew`: the last ones were refused."""
        ...


class ConfiguredKeys:
    """Keys that are set; their files are read again when they change."""

    def __init__(self, key_id: str, secret: SecretSource, token: SecretSource | None = None) -> None:
        self._key_id, self._secret, self._token = key_id, secret, token
        self.next_check_s = -math.inf

    async def read(self, now_s: float, *, renew: bool) -> SigningKeys | ApiError:
        """The keys as they are set now."""
        values: list[str] = []
        sources = [self._secret, *([self._token] if self._token else [])]
        for source in sources:
            value = source.reread(now_s) if renew else source.value(now_s)
            if isinstance(value, ApiError):
                return value
            values.append(value)
        self.next_check_s = min(source.next_check_s for source in sources)
        return SigningKeys(key_id=self._key_id, secret=values[0], token=values[1] if self._token else None)


class SignedAuth:
    """Signs every request of a run. Keys are fetched by one call at a time, and once after a refusal."""

    def __init__(self, keys: KeySource, sign: Sign) -> None:
        self._keys, self._sign = keys, sign
        self._lock = asyncio.Lock()
        self._current: Signature | None = None
        self._failure: ApiError | None = None
        self._not_before_s = -math.inf

    def current(self, now_s: float) -> Credential | None:
        """The keys in use; None if it is time to look for newer ones."""
        return self._current if now_s < self._keys.next_check_s else None

    async def acquire(self, send: Send, *, monotonic: Callable[[], float]) -> Credential | ApiError:  # noqa: ARG002  # Auth's signature
        """The keys, or an error with code `UNUSABLE_CREDENTIALS`."""
        async with self._lock:
            return self.current(monotonic()) or await self._read(monotonic(), renew=False)

    async def renew(
        self,
        rejected: Credential,
        send: Send,  # noqa: ARG002  # Auth's signature
        *,
        monotonic: Callable[[], float],
    ) -> Credential | ApiError | None:
        """Other keys than the rejected ones, if there are any now."""
        async with self._lock:
            fresh: Credential | ApiError | None = self._current
            if fresh is None or fresh == rejected:
                fresh = await self._read(monotonic(), renew=True)
        return None if fresh == rejected else fresh

    async def _read(self, now_s: float, *, renew: bool) -> Signature | ApiError:
        waiting = now_s < self._not_before_s
        if waiting and self._failure is not None:
            return self._failure
        if waiting and renew and self._current is not None:
            return self._current
        keys = await self._keys.read(now_s, renew=renew)
        self._failure = keys if isinstance(keys, ApiError) else None
        self._not_before_s = now_s + _RETRY_S if renew or self._failure else -math.inf
        if isinstance(keys, ApiError):
            return keys
        if self._current is None or keys != self._current.keys:
            self._current = Signature(keys=keys, sign=self._sign)
        return self._current
