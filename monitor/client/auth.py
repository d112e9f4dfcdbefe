"""Credentials for a call: OAuth2 client credentials (RFC 6749, 4.4) or an API key. The client's loop sends the
requests.

An object remembers what was refused, so make one per run. No text contains a secret.
"""

import asyncio
import base64
import dataclasses
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlencode

from monitor.client.retry import is_transient
from monitor.errors import MonitorError
from monitor.model.http import DEADLINE_EXCEEDED, UNUSABLE_CREDENTIALS, ApiError, Operation, Reply, Request
from monitor.model.json_body import decode_json

GRACE_S = 60.0
"""How long, in seconds, the last good value is used while its file is missing, empty or unreadable.

Many rotations are not atomic (`cp`, an editor, a template) but take less than a second. If a secret is missing for a
minute, somebody removed it, and the run must report that.
"""

_CHECK_INTERVAL_S = 1.0

Stamp = Callable[[], tuple[int, ...] | None]
"""Identifies one state of a secret's file; None for a secret in memory, which never changes."""


def in_memory() -> None:
    """The stamp of a secret that never changes."""


class SecretSource:
    """The current value of a secret, for one run.

    `read` may raise OSError, ValueError or MonitorError. `name` is for messages ("API key"). `stamp` is asked at most
    once per second; the secret is read again if it differs from the last one.
    """

    __slots__ = ("_error_at_s", "_name", "_read", "_stamp", "_stamp_read", "_value", "error", "next_check_s", "version")

    def __init__(self, read: Callable[[], str], *, name: str, stamp: Stamp = in_memory) -> None:
        self._read, self._name, self._stamp = read, name, stamp
        self._stamp_read: tuple[int, ...] | None = None
        self._value: str | None = None
        self._error_at_s = 0.0
        self.next_check_s = -math.inf
        """Until then (monotonic seconds) `value` returns the same again."""
        self.error: ApiError | None = None
        """Why the last reading failed; None if it did not. Its code is `UNUSABLE_CREDENTIALS`."""
        self.version = 0

    def value(self, now_s: float) -> str | ApiError:
        """The secret at `now_s` (monotonic); if it can't be read, the last value for `GRACE_S`, then the reason."""
        if now_s >= self.next_check_s:
            stamp = self._stamp()
            if self.error is not None or self.version == 0 or stamp != self._stamp_read:
                self._store(now_s, stamp)
            self.next_check_s = math.inf if stamp is None else now_s + _CHECK_INTERVAL_S
        return self._last_good_value(now_s)

    def reread(self, now_s: float) -> str | ApiError:
        """Like `value`, but reads now: an API rejected the value, or a token is requested."""
        # the stamp comes first: a write in between is then found by the next check
        self._store(now_s, self._stamp())
        return self._last_good_value(now_s)

    def _store(self, now_s: float, stamp: tuple[int, ...] | None) -> None:
        read = self._read_secret()
        if isinstance(read, ApiError):
            self._error_at_s = now_s if self.error is None else self._error_at_s
            self.error = read
            return
        self.error, self._stamp_read = None, stamp
        if read != self._value:
            self._value = read
            self.version += 1

    def _read_secret(self) -> str | ApiError:
        try:
            secret = self._read().rstrip()
        except (OSError, ValueError, MonitorError):
            # their texts may quote the secret or its path
            return _unusable_secret(f"the {self._name} can't be read: check its file or setting")
        if is_header_value(secret):
            return secret
        return _unusable_secret(
            f"the {self._name} is empty or has characters that are not allowed in a header: check its file or setting"
        )

    def _last_good_value(self, now_s: float) -> str | ApiError:
        if self._value is not None and (self.error is None or now_s < self._error_at_s + GRACE_S):
            return self._value
        return self.error or _unusable_secret(f"the {self._name} has not been read")


def is_header_value(text: str) -> bool:
    """Whether a header may contain it: printable ASCII, at least one character."""
    return bool(text) and text.isascii() and text.isprintable()


def _unusable_secret(message: str) -> ApiError:
    # like a refused token it ends the run: no call can be made without it
    return ApiError(status=None, code=UNUSABLE_CREDENTIALS, message=message, from_token_endpoint=True)


_DEFAULT_LIFETIME_S = 3600.0
_MAX_LIFETIME_S = 30 * 86_400.0
_REFRESH_MARGIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token as it was granted."""

    value: str = dataclasses.field(repr=False)
    lifetime_s: float
    """Seconds (> 0, at most 30 days)."""

    @property
    def refresh_after_s(self) -> float:
        """Seconds until it should be refreshed: 60 s before its end, or half-way if that is later."""
        return max(self.lifetime_s - _REFRESH_MARGIN_S, self.lifetime_s / 2)


def basic_credential(user: str, password: str) -> str:
    """The credential of HTTP Basic, in UTF-8 (RFC 7617); `user` has no colon."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def token_request(*, path: str, client_id: str, secret: str, scope: str) -> Request:
    """The request for a token: HTTP Basic (RFC 6749, 2.3.1); an empty scope is not sent."""
    pair = basic_credential(client_id, secret)
    form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
    return Request(
        method="POST",
        path=path,
        template="token endpoint",
        operation=Operation.TOKEN,
        headers={"authorization": f"Basic {pair}", "content-type": "application/x-www-form-urlencoded"},
        body=urlencode(form, safe="/").encode(),
    )


def read_token(reply: Reply) -> Token | ApiError:
    """The token in a 2xx, or an error with the code `unusable_token`.

    A missing or impossible `expires_in` (also zero and below: some mean "never") counts as an hour; a token that
    expires sooner causes a 401 and is replaced.
    """
    try:
        body: Any = decode_json(reply.body)
    except (ValueError, RecursionError):
        body = None
    value = body.get("access_token") if isinstance(body, dict) else None
    if not (isinstance(value, str) and is_header_value(value)):
        return ApiError(
            status=reply.status,
            code="unusable_token",
            message="the token endpoint sent no usable access_token",
            from_token_endpoint=True,
        )
    return Token(value=value, lifetime_s=_lifetime_s(body.get("expires_in")))


def _lifetime_s(expires_in: object) -> float:
    try:
        lifetime_s = float(expires_in) if isinstance(expires_in, int | float | str) else _DEFAULT_LIFETIME_S
    except (ValueError, OverflowError):
        return _DEFAULT_LIFETIME_S
    sane = math.isfinite(lifetime_s) and lifetime_s > 0 and not isinstance(expires_in, bool)
    return min(lifetime_s, _MAX_LIFETIME_S) if sane else _DEFAULT_LIFETIME_S


Send = Callable[[Request], Awaitable[Reply | ApiError]]
"""The client's loop without credentials: retried, bounded by the calling call's deadline."""

_MIN_TOKEN_USE_S = 1.0
"""Every token is used for at least this long: a shorter lifetime would cost a token request per call."""

_REFRESH_RETRY_S = 5.0
"""Wait after a failed early refresh; the old token is still good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthHeader:
    """One header with a credential."""

    header: str
    value: str = dataclasses.field(repr=False)
    secret: str = dataclasses.field(init=False, repr=False, compare=False)
    """The credential without the scheme before it."""

    def __post_init__(self) -> None:
        """Notes the secret once: every answer is looked through for it."""
        object.__setattr__(self, "secret", self.value.rpartition(" ")[2])

    def authorize(self, request: Request) -> Request:
        """The request with the header."""
        return request.with_headers({self.header: self.value})


class Credential(Protocol):
    """What makes a request authorized; equal ones are the same to an API."""

    @property
    def secret(self) -> str:
        """What must not be shown."""
        ...

    def authorize(self, request: Request) -> Request:
        """A copy of a request for one attempt."""
        ...


class Auth(Protocol):
    """The source of a call's credentials."""

    def current(self, now_s: float) -> Credential | None:
        """The credential for a call at `now_s` (monotonic seconds); None: await `acquire`."""
        ...

    async def acquire(self, send: Send, *, monotonic: Callable[[], float]) -> Credential | ApiError:
        """The credential for a call, or why there is none."""
        ...

    async def renew(
        self, rejected: Credential, send: Send, *, monotonic: Callable[[], float]
    ) -> Credential | ApiError | None:
        """After a refusal: another credential than the rejected one, why there is none, or None if none is newer."""
        ...


class ApiKey:
    """A long-lived key, or a password, read again when its file changes and after a 401.

    `scheme` precedes the key, empty for the bare key. `name` is for messages. `read_key` and `stamp` are as for
    `SecretSource`.
    """

    def __init__(
        self,
        read_key: Callable[[], str],
        *,
        header: str = "authorization",
        scheme: str = "Bearer",
        name: str = "API key",
        stamp: Stamp = in_memory,
    ) -> None:
        self._source = SecretSource(read_key, name=name, stamp=stamp)
        self._header, self._scheme = header, scheme
        self._current: AuthHeader | None = None
        self._next_check_s = -math.inf

    def current(self, now_s: float) -> AuthHeader | None:
        """The key; None about once per second, when its file must be checked for a change."""
        return self._current if now_s < self._next_check_s else None

    async def acquire(self, send: Send, *, monotonic: Callable[[], float]) -> AuthHeader | ApiError:  # noqa: ARG002  # Auth's signature
        """The key as a header; an error with code `UNUSABLE_CREDENTIALS` if it can't be read or sent."""
        key = self._source.value(monotonic())
        return key if isinstance(key, ApiError) else self._store(key)

    async def renew(
        self,
        rejected: Credential,
        send: Send,  # noqa: ARG002  # Auth's signature
        *,
        monotonic: Callable[[], float],
    ) -> AuthHeader | ApiError | None:
        """The key as it reads now, if it changed."""
        if self._current is not None and self._current != rejected:
            return self._current
        key = self._source.reread(monotonic())
        if isinstance(key, ApiError):
            return key
        fresh = self._store(key)
        # during a rotation `fresh` is the last good key: the one that was just rejected
        return self._source.error if fresh == rejected else fresh

    def _store(self, key: str) -> AuthHeader:
        self._next_check_s = self._source.next_check_s
        self._current = AuthHeader(header=self._header, value=f"{self._scheme} {key}".strip())
        return self._current


class ClientCredentials:
    """OAuth2 client credentials: one token for all calls, refreshed 60 s early and once after a 401.

    1. One token request is in flight at a time. A token that is only due for its early refresh stays in use; calls
      without a token wait, each until its own deadline. If the deadline of the requesting call ends the request, the
      next one repeats it.
    2. A rejected token is replaced once, however many calls report it. If the same token is granted again, the 401 is
      the result.
    3. A failure is the result for all calls that waited for it, and for later ones until the time that the server
      named. If an early refresh fails, the old token is used until it expires.
    4. A refusal is final for the run, unless the secret changes: then it is tried once more.

    `client_id` is printable ASCII without a colon (RFC 7617). `read_secret` is called for each token request; it and
    `stamp` are as for `SecretSource`.
    """

    def __init__(
        self,
        *,
        token_path: str,
        client_id: str,
        read_secret: Callable[[], str],
        scope: str = "api/access",
        stamp: Stamp = in_memory,
    ) -> None:
        self._request = partial(token_request, path=token_path, client_id=client_id, scope=scope)
        self._source = SecretSource(read_secret, name="client secret", stamp=stamp)
        self._lock = asyncio.Lock()
        self._completed_requests = 0
        self._current: AuthHeader | None = None
        self._refresh_at_s = self._expires_at_s = -math.inf
        self._rejected: Credential | None = None
        self._replaced: set[Credential] = set()
        self._failure: ApiError | None = None
        self._not_before_s = -math.inf
        self._final_error: ApiError | None = None
        self._final_error_version = 0

    def current(self, now_s: float) -> AuthHeader | None:
        """The token, unless it is due for its refresh and no call is refreshing it."""
        if now_s < self._refresh_at_s or (now_s < self._expires_at_s and self._lock.locked()):
            return self._current
        return None

    async def acquire(self, send: Send, *, monotonic: Callable[[], float]) -> AuthHeader | ApiError:
        """The current token; fetched first if there is none or it is about to expire."""
        return self.current(monotonic()) or await self._acquire_single_flight(send, monotonic, rejected=None)

    async def renew(
        self, rejected: Credential, send: Send, *, monotonic: Callable[[], float]
    ) -> AuthHeader | ApiError | None:
        """Another token than the rejected one; one request, however many calls ask."""
        if rejected == self._current and rejected not in self._replaced:
            # no further call may use it
            self._rejected, self._refresh_at_s, self._expires_at_s = rejected, -math.inf, -math.inf
        usable = self.current(monotonic())
        known = usable is not None and usable != rejected
        fresh = usable if known else await self._acquire_single_flight(send, monotonic, rejected=rejected)
        return None if fresh == rejected or fresh in self._replaced else fresh

    async def _acquire_single_flight(
        self, send: Send, monotonic: Callable[[], float], *, rejected: Credential | None
    ) -> AuthHeader | ApiError:
        completed_before = self._completed_requests
        async with self._lock:
            now_s = monotonic()
            current = self._current if now_s < self._refresh_at_s else None
            if current is not None and (current != rejected or current in self._replaced):
                return current
            known_failure = self._known_failure(now_s, waited=self._completed_requests != completed_before)
            return known_failure or await self._request_token(send, monotonic)

    def _known_failure(self, now_s: float, *, waited: bool) -> ApiError | None:
        """Why a token request now would fail, if that is known."""
        if self._final_error is not None:
            self._source.value(now_s)
            if self._source.version == self._final_error_version:
                return self._final_error
        # it failed for another call while this one waited: a new request would fail too
        return self._failure if waited or now_s < self._not_before_s else None

    async def _request_token(self, send: Send, monotonic: Callable[[], float]) -> AuthHeader | ApiError:
        requested_at_s, rejected = monotonic(), self._rejected
        secret, version = self._source.reread(requested_at_s), self._source.version
        reply = secret if isinstance(secret, ApiError) else await send(self._request(secret=secret))
        token = read_token(reply) if isinstance(reply, Reply) else reply
        self._completed_requests += 1
        if isinstance(token, ApiError):
            return self._store_failure(token, monotonic(), version)
        if rejected is not None:
            self._replaced.add(rejected)
            self._rejected = None
        return self._store_token(token, requested_at_s, monotonic())

    def _store_token(self, token: Token, requested_at_s: float, now_s: float) -> AuthHeader:
        self._refresh_at_s = max(requested_at_s + token.refresh_after_s, now_s + _MIN_TOKEN_USE_S)
        self._expires_at_s = max(requested_at_s + token.lifetime_s, self._refresh_at_s)
        self._failure, self._final_error, self._not_before_s = None, None, -math.inf
        self._current = AuthHeader(header="authorization", value=f"Bearer {token.value}")
        return self._current

    def _store_failure(self, error: ApiError, now_s: float, version: int) -> AuthHeader | ApiError:
        """Remembers the failure; returns the old token while it is good."""
        # only the deadline of the requesting call passed, not those of the calls that waited
        self._failure = None if error.is_local(DEADLINE_EXCEEDED) else error
        self._not_before_s = now_s + error.retry_after.total_seconds() if error.retry_after else -math.inf
        final = (error.status is not None or error.network is not None) and not is_transient(error)
        if final:
            self._final_error, self._final_error_version = error, version
        if self._current is None or now_s >= self._expires_at_s:
            return error
        refresh_retry_s = math.inf if final else max(now_s + _REFRESH_RETRY_S, self._not_before_s)
        self._refresh_at_s = min(self._expires_at_s, refresh_retry_s)
        return self._current
