"""What may be sent under one key: shared by the targets of one process, and through the database with other runs."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Engine

from monitor.client.limits import Breaker, ConcurrencyLimit
from monitor.client.rate.limiter import RateLimiter
from monitor.client.throttle import Throttle, utcnow
from monitor.config import ApiKeyConfig, CheckConfig, TargetConfig
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError, StoreError
from monitor.incidents.backoff import UNTHROTTLED
from monitor.logs import warn_rate_limited
from monitor.model import LearnedLimits
from monitor.runs import store as run_store
from monitor.runs import throttle_store

_PORTS = {"https": 443, "http": 80}
_PEPPER = secrets.token_bytes(32)
_known_keys: dict[bytes, str] = {}
"""Names of API keys that this process made already, under hashes that are of use to nobody else."""


def throttle_key(target: TargetConfig) -> str:
    """The name of a target's origin and credential: 32 hexadecimal digits.

    It is stored, so it must not help anybody to an API key: scrypt (RFC 7914) makes each guess cost about 10 ms and
    4 MiB, which a process pays once per key. A client's id is no secret (RFC 6749, 2.2), and its secret is not part of
    the name: when it is rotated, the account is the same.

    Reads the file of an API key, if it is in one. A key that can't be read shares nothing with other targets.
    """
    origin, credential = http_origin(target).encode(), _credential(target).encode()
    if not isinstance(target.auth, ApiKeyConfig):
        return hashlib.blake2b(origin + b"\n" + credential, digest_size=16).hexdigest()
    known = hashlib.blake2b(origin + b"\n" + credential, key=_PEPPER).digest()
    if known not in _known_keys:
        _known_keys[known] = hashlib.scrypt(credential, salt=origin, n=1 << 12, r=8, p=1, dklen=16).hex()
    return _known_keys[known]


def shares_throttle(one: TargetConfig, another: TargetConfig) -> bool:
    """Whether both have one key, at a hundredth of the cost of making it."""
    return http_origin(one) == http_origin(another) and _credential(one) == _credential(another)


def http_origin(target: TargetConfig) -> str:
    """Where a target's API is: `scheme://host:port`, the host in lower case, the port always there (RFC 6454, 4)."""
    parts = urlsplit(target.base_url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[parts.scheme]}"


def _credential(target: TargetConfig) -> str:
    """Names a credential; the word before the colon keeps a key that looks like a client's id apart from it."""
    if target.auth is None:
        return "none"
    if not isinstance(target.auth, ApiKeyConfig):
        return f"client:{target.auth.client_id}"
    try:
        return f"key:{target.auth.api_key.reveal()}"
    except ConfigError:
        # the run finds it out as well, and says so
        return f"setting:targets.{target.name}.auth.api_key"


SYNC_INTERVAL_S = 10.0
"""So often, in seconds, processes that run at the same time tell each other of hints, and later ones of the rest."""


class ThrottleRegistry:
    """The live throttles of one process, one per origin and credential."""

    def __init__(self) -> None:
        self._throttles: dict[str, Throttle] = {}
        self._target_names: dict[str, set[str]] = {}
        """The names of the targets on each key."""
        self.key_by_target: dict[str, str] = {}
        """The key of each target that ran here, by name: making one costs too much to be done for a look."""

    @asynccontextmanager
    async def throttle(
        self,
        target: TargetConfig,
        configured: Sequence[TargetConfig],
        engine: Engine,
        *,
        utcnow: Callable[[], datetime] = utcnow,
    ) -> AsyncIterator[Throttle]:
        """The throttle for one run over a target, as earlier runs and other processes left it.

        Args:
            target: whose run begins.
            configured: all that are configured: those on one key are held to the strictest of their rates and shares.
            engine: where it is kept.
            utcnow: the clock.
        """
        key = await asyncio.to_thread(throttle_key, target)
        learned = await asyncio.to_thread(_read, engine, key)
        throttle = self._throttles.get(key)
        if throttle is None:
            sharing_targets = await asyncio.to_thread(_targets_with_key, target, configured)
            throttle = self._throttles.setdefault(
                key, _build_throttle([each.check for each in sharing_targets], learned, utcnow)
            )
            self._target_names.setdefault(key, set()).update(each.name for each in sharing_targets)
        self._target_names[key].add(target.name)
        self.key_by_target[target.name] = key
        if learned is not None:
            throttle.restore_backoff(learned)
        # of several targets on one key the one that was refused most holds all of them back
        throttle.set_throttle_factor(
            await asyncio.to_thread(_read_throttle_factor, engine, sorted(self._target_names[key]))
        )
        throttle.breaker.start_run()
        sync_task = asyncio.create_task(_sync_periodically(engine, key, target, throttle))
        try:
            yield throttle
        finally:
            sync_task.cancel()
            (result,) = await asyncio.gather(sync_task, return_exceptions=True)
            if isinstance(result, Exception):
                structlog.get_logger().error("throttle_not_shared", reason=type(result).__name__)
            await asyncio.to_thread(_write, engine, key, target, throttle.learned())


def _targets_with_key(target: TargetConfig, configured: Sequence[TargetConfig]) -> Sequence[TargetConfig]:
    """The target and the others on its key."""
    return [target, *(each for each in configured if each.name != target.name and shares_throttle(each, target))]


def _build_throttle(
    checks: Sequence[CheckConfig], learned: LearnedLimits | None, utcnow: Callable[[], datetime]
) -> Throttle:
    rates = [check.rate for check in checks if check.rate is not None]
    return Throttle(
        rate_limiter=RateLimiter(
            ceiling_per_s=min(rates, default=None),
            share=min(check.rate_share for check in checks),
            learned_per_s=learned.rate_per_s if learned else None,
        ),
        concurrency=ConcurrencyLimit(
            max(check.concurrency for check in checks), learned.concurrency if learned else None
        ),
        breaker=Breaker(down=learned.down if learned else False),
        utcnow=utcnow,
    )


def copy_limits(targets: Sequence[TargetConfig], *, source: Engine, destination: Engine) -> None:
    """Copies what was learned about the targets' APIs from one database to another, such as that of a dry run.

    Args:
        targets: which.
        source: only read; one that can't be, or is not there yet, lends nothing.
        destination: at this program's schema.
    """
    keys = {throttle_key(target): target for target in targets}
    try:
        with reading(source) as conn:
            known = {key: throttle_store.read(conn, key=key) for key in keys}
    except StoreError as error:
        structlog.get_logger().debug("limits_not_copied", reason=str(error))
        return
    for key, learned in known.items():
        if learned is not None:
            _write(destination, key, keys[key], learned)


async def _sync_periodically(engine: Engine, key: str, target: TargetConfig, throttle: Throttle) -> None:
    while True:
        await asyncio.sleep(SYNC_INTERVAL_S)
        await asyncio.to_thread(_write, engine, key, target, throttle.learned())
        learned = await asyncio.to_thread(_read, engine, key)
        if learned is not None:
            throttle.restore_backoff(learned)


def _read(engine: Engine, key: str) -> LearnedLimits | None:
    try:
        with reading(engine) as conn:
            return throttle_store.read(conn, key=key)
    except StoreError as error:
        # the run itself meets the same database, and says so; what it may send it finds out anew
        warn_rate_limited("throttle_not_read", reason=str(error))
        return None


def _read_throttle_factor(engine: Engine, targets: Sequence[str]) -> float:
    """The smallest share of rate and concurrency that any of the targets is to take."""
    try:
        with reading(engine) as conn:
            return run_store.min_throttle_factor(conn, targets=targets)
    except StoreError as error:
        warn_rate_limited("throttle_factor_not_read", reason=str(error))
        return UNTHROTTLED


def _write(engine: Engine, key: str, target: TargetConfig, learned: LearnedLimits) -> None:
    try:
        with writing(engine) as conn:
            throttle_store.write(conn, key=key, origin=http_origin(target), limits=learned)
    except StoreError as error:
        warn_rate_limited("throttle_not_written", reason=str(error))
