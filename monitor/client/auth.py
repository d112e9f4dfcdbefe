"""Credentials for a call: OAuth2 client credentials (RFC 6749, 4.4) or an API key. The client's loop does the sending.

A token is fetched in single flight and replaced only when the rejected one is still the current one, so that fifty
calls meeting an expired token cost one refresh. A refusal by the token endpoint is remembered: make one object per run.
Secrets are read when they are needed, never kept, and never part of a text.
"""

import asyncio
import base64
import dataclasses
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from monitor.client.retry import is_transient
from monitor.errors import MonitorError
from monitor.exchange import UNUSABLE_SECRET, ApiError, Operation, Reply, Request

__all__ = ["ApiKey", "Ask", "Auth", "ClientCredentials", "Grant"]

Ask = Callable[[Request], Awaitable[Reply | ApiError]]
"""The client's loop without credentials: retried, bounded by the asking call's deadline."""

_DEFAULT_LIFE_S = 3600.0
_LONGEST_LIFE_S = 30 * 86_400.0
_EARLY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One header that proves who is asking."""

    header: str
    value: str = dataclasses.field(repr=False)


class Auth(Protocol):
    """Where a call's credentials come from."""

    async def grant(self, ask: Ask, *, monotonic: Callable[[], float]) -> Grant | ApiError:
        """The header for a call, or why there is none."""
        ...

    async def renew(self, rejected: Grant, ask: Ask, *, monotonic: Callable[[], float]) -> Grant | ApiError | None:
        """After a 401: another header than the rejected one, why there is none, or None when nothing newer exists."""
        ...


class ApiKey:
    """A long-lived key, read again after a 401, in case it was rotated.

    Args:
        read_key: the key; called at the first request and after each 401. May raise OSError, ValueError, MonitorError.
        header: name of the header, in lower case.
        scheme: what stands before the key; empty for the bare key.
    """

    def __init__(self, read_key: Callable[[], str], *, header: str = "authorization", scheme: str = "Bearer") -> None:
        self._read_key, self._header, self._scheme = read_key, header, scheme
        self._current: Grant | None = None

    async def grant(self, ask: Ask, *, monotonic: Callable[[], float]) -> Grant | ApiError:  # noqa: ARG002  # Auth's signature
        """The key as a header; an error with code `UNUSABLE_SECRET` when it can't be read or sent."""
        if self._current is None:
            fresh = self._read()
            if isinstance(fresh, ApiError):
                return fresh
            self._current = fresh
        return self._current

    async def renew(self, rejected: Grant, ask: Ask, *, monotonic: Callable[[], float]) -> Grant | ApiError | None:  # noqa: ARG002  # Auth's signature
        """The key as it reads now, if it is another one."""
        if self._current is not None and self._current != rejected:
            return self._current
        fresh = self._read()
        if fresh == rejected:
            return None
        if isinstance(fresh, Grant):
            self._current = fresh
        return fresh

    def _read(self) -> Grant | ApiError:
        key = _read_secret(self._read_key, "API key")
        if isinstance(key, ApiError):
            return key
        return Grant(header=self._header, value=f"{self._scheme} {key}".strip())


class ClientCredentials:
    """OAuth2 client credentials: HTTP Basic, refreshed 60 s early and once after a 401.

    Args:
        token_path: path of the token endpoint below the base URL, or an absolute URL.
        client_id: printable ASCII without a colon (RFC 7617).
        read_secret: the client's secret; called at each token request, so that a rotated file is seen. May raise
            OSError, ValueError or MonitorError.
        scope: what to ask for; empty to send none.
    """

    def __init__(
        self, *, token_path: str, client_id: str, read_secret: Callable[[], str], scope: str = "api/access"
    ) -> None:
        self._token_path, self._client_id, self._read_secret, self._scope = token_path, client_id, read_secret, scope
        self._lock = asyncio.Lock()
        self._current: Grant | None = None
        self._stale_at_s = -math.inf
        self._refusal: ApiError | None = None
        self._flights = 0
        self._last_failure: ApiError | None = None

    async def grant(self, ask: Ask, *, monotonic: Callable[[], float]) -> Grant | ApiError:
        """The current token, fetched first when there is none or it is about to expire."""
        return self._usable(monotonic()) or await self._fly(ask, monotonic, rejected=None)

    async def renew(self, rejected: Grant, ask: Ask, *, monotonic: Callable[[], float]) -> Grant | ApiError:
        """Another token than the rejected one; one request, however many calls ask."""
        return await self._fly(ask, monotonic, rejected=rejected)

    def _usable(self, now_s: float) -> Grant | None:
        return self._current if now_s < self._stale_at_s else None

    async def _fly(self, ask: Ask, monotonic: Callable[[], float], *, rejected: Grant | None) -> Grant | ApiError:
        flights_before = self._flights
        async with self._lock:
            current = self._usable(monotonic())
            if current is not None and current != rejected:
                return current
            if self._refusal is not None:
                return self._refusal
            if self._flights != flights_before and self._last_failure is not None:
                # it failed for the one who flew while this call waited: asking again would only queue up
                return self._last_failure
            return await self._fetch(ask, monotonic)

    async def _fetch(self, ask: Ask, monotonic: Callable[[], float]) -> Grant | ApiError:
        asked_at_s = monotonic()
        token = await self._request_token(ask)
        self._flights += 1
        self._last_failure = None
        if isinstance(token, ApiError):
            self._last_failure = token
            answered = token.status is not None or token.network is not None
            self._refusal = token if answered and not is_transient(token) else None
            return token
        self._current = Grant(header="authorization", value=f"Bearer {token.value}")
        self._stale_at_s = asked_at_s + max(token.life_s - _EARLY_S, token.life_s / 2)
        return self._current

    async def _request_token(self, ask: Ask) -> "_Token | ApiError":
        secret = _read_secret(self._read_secret, "client secret")
        if isinstance(secret, ApiError):
            return secret
        pair = base64.b64encode(f"{self._client_id}:{secret}".encode()).decode()
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        reply = await ask(
            Request(
                method="POST",
                path=self._token_path,
                template="token endpoint",
                operation=Operation.TOKEN,
                headers={"authorization": f"Basic {pair}", "content-type": "application/x-www-form-urlencoded"},
                body=urlencode(form, safe="/").encode(),
            )
        )
        return reply if isinstance(reply, ApiError) else _read_token(reply)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    value: str = dataclasses.field(repr=False)
    life_s: float


def _read_token(reply: Reply) -> _Token | ApiError:
    try:
        body = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        body = None
    value = body.get("access_token") if isinstance(body, dict) else None
    if not (isinstance(value, str) and _is_header_text(value)):
        return ApiError(
            status=reply.status,
            code="unusable_token",
            message="the token endpoint answered without a usable access_token",
            from_token_endpoint=True,
        )
    return _Token(value=value, life_s=_life_s(body.get("expires_in")))


def _life_s(expires_in: object) -> float:
    try:
        life_s = float(expires_in) if isinstance(expires_in, int | float | str) else _DEFAULT_LIFE_S
    except (ValueError, OverflowError):
        return _DEFAULT_LIFE_S
    sane = math.isfinite(life_s) and life_s > 0 and not isinstance(expires_in, bool)
    return min(life_s, _LONGEST_LIFE_S) if sane else _DEFAULT_LIFE_S


def _read_secret(read: Callable[[], str], name: str) -> str | ApiError:
    try:
        secret = read().rstrip()
    except (OSError, ValueError, MonitorError):
        # what they say may quote the secret or its place
        return _unusable(f"the {name} can't be read; check the file or setting that holds it")
    if not _is_header_text(secret):
        return _unusable(f"the {name} is empty or holds characters that no header may carry; check where it is set")
    return secret


def _unusable(message: str) -> ApiError:
    return ApiError(status=None, code=UNUSABLE_SECRET, message=message, from_token_endpoint=True)


def _is_header_text(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()
