"""Throttles, one per origin and credential: shared by a process's targets, and through the database with other runs."""

import asyncio
import hashlib
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import structlog
from sqlalchemy import Connection, Engine

from monitor.app.fleet_limits import FleetLimits, LimitsExchange
from monitor.client.limits import Breaker, ConcurrencyLimit
from monitor.client.rate.limiter import RateLimiter
from monitor.client.rate.unannounced import UnannouncedLimit
from monitor.client.throttle import Throttle, utcnow
from monitor.config import ApiKeyConfig, AwsConfig, CheckConfig, Config, PasswordConfig, TargetConfig
from monitor.database import leases
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError, StoreError
from monitor.incidents.backoff import UNTHROTTLED
from monitor.logs import warn_rate_limited
from monitor.model import NOTHING_LEARNED, LearnedLimits
from monitor.runs import throttle_store
from monitor.threads import run_in_database_pool

_PORTS = {"https": 443, "http": 80}
_PEPPER = secrets.token_bytes(32)
_known_keys: dict[bytes, str] = {}
"""Throttle keys that this process has computed, by a hash with a random key."""


def throttle_key(target: TargetConfig) -> str:
    """A hash of a target's origin and credential: 32 hexadecimal digits.

    It is stored, so it must not reveal an API key: with scrypt (RFC 7914) each guess costs about 10 ms and 4 MiB, which
    a process pays once per key, and not at all while nothing is stored about the origin. A client id is not secret (RFC
    6749, 2.2), nor is a user. The client secret and the password are not hashed: after a rotation, the account is the
    same.

    It reads the file of an API key. A key that can't be read is shared with no other target.
    """
    origin, credential = http_origin(target).encode(), _credential(target).encode()
    if not isinstance(target.auth, ApiKeyConfig):
        return hashlib.blake2b(origin + b"\n" + credential, digest_size=16).hexdigest()
    known = hashlib.blake2b(origin + b"\n" + credential, key=_PEPPER).digest()
    if known not in _known_keys:
        _known_keys[known] = hashlib.scrypt(credential, salt=origin, n=1 << 12, r=8, p=1, dklen=16).hex()
    return _known_keys[known]


def http_origin(target: TargetConfig) -> str:
    """The target's origin (RFC 6454, 4): `scheme://host:port`, the host in lower case, always with the port."""
    parts = urlsplit(target.base_url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[parts.scheme]}"


def _credential(target: TargetConfig) -> str:
    """The credential, with a prefix that separates keys from client ids."""
    if target.auth is None:
        return "none"
    if isinstance(target.auth, PasswordConfig):
        return f"user:{target.auth.user}"
    if isinstance(target.auth, AwsConfig):
        return f"aws:{target.auth.access_key_id or ''}:{target.auth.profile or ''}"
    if not isinstance(target.auth, ApiKeyConfig):
        return f"client:{target.auth.client_id}"
    try:
        return f"key:{target.auth.api_key.reveal()}"
    except ConfigError:  # the run reports it
        return f"setting:targets.{target.name}.auth.api_key"


SYNC_INTERVAL_S = 10.0  # between exchanges of learned limits with other processes, through the database


def limits_of(config: Config, *, is_worker: bool = False, claims: Engine | None = None) -> "ThrottleRegistry":
    """The limits of a process: with workers it shares them with others, else all are its own.

    A share is bounded by `share_concurrency`, and sends all the time. `claims` is the database with the claims, if it
    is not that of the runs. The process's name has a random end: containers on one host may have the host's name and
    process number 1, and the limits before a reload are apart from those after it.
    """
    fleet = config.fleet
    if not fleet.workers:
        return ThrottleRegistry()
    limits = FleetLimits(
        holder=f"{socket.gethostname()}:{os.getpid()}/{secrets.token_hex(4)}",
        stalled_after=fleet.stalled_after,
        share_concurrency=fleet.share_concurrency if is_worker else None,
        only_while_sending=not is_worker,
    )
    return ThrottleRegistry(limits, claims=claims)


class ThrottleRegistry:
    """The live throttles of one process, one per origin and credential. With `fleet` it shares their limits with other
    processes, and takes a part of them; otherwise all of them are its own.
    """

    def __init__(self, fleet: FleetLimits | None = None, *, claims: Engine | None = None) -> None:
        """`claims` is the database with the claims, if it is not that of the runs."""
        self._exchange = LimitsExchange(fleet) if fleet is not None else None
        self._claims = claims
        self._throttles: dict[bytes, Throttle] = {}
        self._checks: dict[bytes, list[CheckConfig]] = {}  # of the targets with each key
        self._in_use: Counter[bytes] = Counter()  # runs in progress with each key
        self._factors: dict[bytes, _Factor] = {}  # of each key
        self._stored: dict[bytes, LearnedLimits | None] = {}  # of each key, as last read or written
        self._server_ahead = timedelta(0)
        """By how much the database's clock is ahead of ours; with `fleet`, hints of the API are told by that one."""
        self._sharing = SharingTargets()
        self.key_by_target: dict[str, str | None] = {}
        """The key of each target that ran here, None if nothing is stored; metrics use it, as it is slow to compute."""

    @asynccontextmanager
    async def throttle(
        self,
        target: TargetConfig,
        configured: Sequence[TargetConfig],
        engine: Engine,
        *,
        utcnow: Callable[[], datetime] = utcnow,
    ) -> AsyncIterator[Throttle]:
        """The throttle for one run, with the limits that earlier runs and other processes learned.

        Of all `configured` targets, those with the same key use the strictest of their rates and shares. The first of
        the runs that use a throttle at a time begins with the stored rate, as a run in a new process does: so a rate
        recovers in the daemon as it does in one-shot runs.
        """
        key, learned, sharing = await run_in_database_pool(lambda: self._look_up(target, configured, engine, utcnow))
        throttle = self._throttles.get(key)
        if throttle is None:
            checks = self._checks.setdefault(key, [each.check for each in sharing])
            throttle = self._throttles.setdefault(key, _build_throttle(checks, learned, self._clock(utcnow)))
        elif not self._in_use[key]:
            rate_per_s = learned.rate_per_s if learned else throttle.rate_limiter.learned_per_s
            throttle.rate_limiter = _build_limiter(self._checks[key], rate_per_s)
        self._in_use[key] += 1
        try:
            async with self._in_run(key, target, throttle, learned, engine):
                yield throttle
        finally:
            self._in_use[key] -= 1

    @asynccontextmanager
    async def claim(self, target: TargetConfig, engine: Engine) -> AsyncIterator[None]:
        """Takes the part of a run, and hands it back at the end, for a few requests that obey no limit."""
        async with self._claimed(target, Throttle(), engine):
            yield

    def _clock(self, utcnow: Callable[[], datetime]) -> Callable[[], datetime]:
        """The clock of a throttle: clocks of machines differ, and a hint must end at the same moment on all of them."""
        return utcnow if self._exchange is None else lambda: utcnow() + self._server_ahead

    def _look_up(
        self, target: TargetConfig, configured: Sequence[TargetConfig], engine: Engine, utcnow: Callable[[], datetime]
    ) -> tuple[bytes, LearnedLimits | None, Sequence[TargetConfig]]:
        """Its key here, what is stored, and the targets with the key; also reads the throttle factor, if it is due.

        The lowest factor of the targets with a key applies to all of them. While runs use the key it is read again only
        as often as processes exchange limits: a thousand targets with one key would else ask about all of them a
        thousand times.
        """
        key, sharing, now_s = _key_here(target), self._sharing.of(target, configured), time.monotonic()
        factor = self._factors.get(key)
        is_due = factor is None or not self._in_use[key] or now_s - factor.read_at_s >= SYNC_INTERVAL_S
        try:
            with reading(engine) as conn:
                if self._exchange is not None:
                    self._server_ahead = self._ahead(conn, utcnow)
                any_limits: bool | None = None
                if is_due:
                    names = sorted(each.name for each in sharing)
                    any_limits, lowest = throttle_store.look_up(conn, origin=http_origin(target), targets=names)
                    self._factors[key] = _Factor(value=lowest, read_at_s=now_s)
                learned = self._stored[key] = _stored_limits(conn, target, any_limits=any_limits)
        except StoreError as error:
            # the run reports the database error; it learns the limits again
            warn_rate_limited("throttle_not_read", reason=str(error))
            return key, None, sharing
        return key, learned, sharing

    def _ahead(self, conn: Connection, utcnow: Callable[[], datetime]) -> timedelta:
        if self._claims is None:
            return leases.lease_now(conn, utcnow=utcnow) - utcnow()
        with reading(self._claims) as other:
            return leases.lease_now(other, utcnow=utcnow) - utcnow()

    @asynccontextmanager
    async def _in_run(
        self, key: bytes, target: TargetConfig, throttle: Throttle, learned: LearnedLimits | None, engine: Engine
    ) -> AsyncIterator[None]:
        """Begins a run with a throttle; exchanges what was learned with other processes, and stores it at the end."""
        self.key_by_target[target.name] = None if learned is None else throttle_key(target)
        if learned is not None:
            throttle.restore_backoff(learned)
        factor = self._factors.get(key)
        throttle.set_throttle_factor(UNTHROTTLED if factor is None else factor.value)
        async with self._claimed(target, throttle, engine):
            throttle.start_run()
            async with self._synced(key, target, throttle, engine):
                yield

    @asynccontextmanager
    async def _claimed(self, target: TargetConfig, throttle: Throttle, engine: Engine) -> AsyncIterator[None]:
        """Takes a part of the limits, among the processes that use them; without a fleet they are all its own."""
        if self._exchange is None:
            yield
            return
        shared_key = await run_in_database_pool(lambda: throttle_key(target))  # slow, and it may read a file
        database = self._claims or engine
        try:
            await self._exchange.join(database, key=shared_key, origin=http_origin(target), throttle=throttle)
            yield
        finally:
            await self._exchange.leave(database, key=shared_key)

    @asynccontextmanager
    async def _synced(
        self, key: bytes, target: TargetConfig, throttle: Throttle, engine: Engine
    ) -> AsyncIterator[None]:
        sync_task = asyncio.create_task(self._sync_periodically(engine, key, target, throttle))
        try:
            yield
        finally:
            sync_task.cancel()
            (result,) = await asyncio.gather(sync_task, return_exceptions=True)
            if isinstance(result, Exception):
                structlog.get_logger().error("throttle_not_shared", reason=type(result).__name__)
            await self._store(engine, key, target, throttle.learned())

    async def _sync_periodically(self, engine: Engine, key: bytes, target: TargetConfig, throttle: Throttle) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            await self._store(engine, key, target, throttle.learned())
            learned = await run_in_database_pool(lambda: _read(engine, target))
            self._stored[key] = learned
            if learned is not None:
                throttle.restore_backoff(learned)

    async def _store(self, engine: Engine, key: bytes, target: TargetConfig, learned: LearnedLimits) -> None:
        """Stores what was learned, unless it is stored already: most runs learn nothing."""
        known = self._stored.get(key) or NOTHING_LEARNED
        if not _says_nothing_new(learned, known):
            self._stored[key] = learned
            self.key_by_target[target.name] = await run_in_database_pool(lambda: _write(engine, target, learned))


class _Factor(msgspec.Struct, frozen=True, kw_only=True):
    """The lowest throttle factor of the targets with one key."""

    value: float
    read_at_s: float
    """On the monotonic clock."""


class SharingTargets:
    """Which configured targets have which origin and credential: known after one pass, until a key is rotated."""

    def __init__(self) -> None:
        self._configured: Sequence[TargetConfig] = ()
        self._by_identity: dict[tuple[str, str], dict[str, TargetConfig]] = {}

    def of(self, target: TargetConfig, configured: Sequence[TargetConfig]) -> Sequence[TargetConfig]:
        """The target and the others with its key. Called from any thread."""
        known = self._by_identity.get(_identity(target), {})
        if self._configured is not configured or target.name not in known:
            by_identity: dict[tuple[str, str], dict[str, TargetConfig]] = {}
            for each in (*configured, target):
                by_identity.setdefault(_identity(each), {})[each.name] = each
            self._by_identity, self._configured = by_identity, configured
            known = by_identity.get(_identity(target), {})
        return tuple(known.values())


def _identity(target: TargetConfig) -> tuple[str, str]:
    return http_origin(target), _credential(target)


def _key_here(target: TargetConfig) -> bytes:
    """A key for this process alone, at once: a hash of origin and credential under a random key."""
    return hashlib.blake2b("\n".join(_identity(target)).encode(), key=_PEPPER).digest()


def _says_nothing_new(learned: LearnedLimits, known: LearnedLimits) -> bool:
    """Whether the stored limits stay as they are; a hint, or that the API is down, is told again with its time."""
    if learned.not_before is not None or learned.down or known.down:
        return False
    return (learned.rate_per_s, learned.concurrency) == (known.rate_per_s, known.concurrency)


def _build_throttle(
    checks: Sequence[CheckConfig], learned: LearnedLimits | None, utcnow: Callable[[], datetime]
) -> Throttle:
    return Throttle(
        rate_limiter=_build_limiter(checks, learned.rate_per_s if learned else None),
        concurrency=ConcurrencyLimit(
            max(check.concurrency for check in checks), learned.concurrency if learned else None
        ),
        breaker=Breaker(down=learned.down if learned else False),
        unannounced=UnannouncedLimit(known=learned is not None and learned.rate_per_s is not None),
        utcnow=utcnow,
    )


def _build_limiter(checks: Sequence[CheckConfig], rate_per_s: float | None) -> RateLimiter:
    rates = [check.rate for check in checks if check.rate is not None]
    return RateLimiter(
        ceiling_per_s=min(rates, default=None),
        share=min(check.rate_share for check in checks),
        learned_per_s=rate_per_s,
    )


def copy_limits(targets: Sequence[TargetConfig], *, source: Engine, destination: Engine) -> None:
    """Copies learned limits between databases, for a dry run. If `source` can't be read, it copies nothing."""
    try:
        with reading(source) as conn:
            of_each_key = {_identity(target): target for target in targets}
            known = [(target, _stored_limits(conn, target)) for target in of_each_key.values()]
    except StoreError as error:
        structlog.get_logger().debug("limits_not_copied", reason=str(error))
        return
    for target, learned in known:
        if learned is not None:
            _write(destination, target, learned)


def _stored_limits(conn: Connection, target: TargetConfig, *, any_limits: bool | None = None) -> LearnedLimits | None:
    """What is stored under a target's key, which is slow to compute, and not needed where no limit was ever met.

    `any_limits`: whether one was; None: it is looked up.
    """
    if any_limits is None:
        any_limits = throttle_store.has_limits(conn, origin=http_origin(target))
    if not any_limits:
        return None
    return throttle_store.read(conn, key=throttle_key(target))


def _read(engine: Engine, target: TargetConfig) -> LearnedLimits | None:
    try:
        with reading(engine) as conn:
            return _stored_limits(conn, target)
    except StoreError as error:
        # the run reports the database error; it learns the limits again
        warn_rate_limited("throttle_not_read", reason=str(error))
        return None


def _write(engine: Engine, target: TargetConfig, learned: LearnedLimits) -> str:
    """Stores learned limits; returns their key."""
    key = throttle_key(target)
    try:
        with writing(engine) as conn:
            throttle_store.write(conn, key=key, origin=http_origin(target), limits=learned)
    except StoreError as error:
        warn_rate_limited("throttle_not_written", reason=str(error))
    return key
