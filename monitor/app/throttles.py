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

from monitor.client.limits import Breaker, Concurrency
from monitor.client.rate.limiter import Pace
from monitor.client.throttle import Throttle, utcnow
from monitor.config import ApiKeyAuth, CheckConfig, Target
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError, StoreError
from monitor.incidents.backoff import NONE
from monitor.logs import warn_rarely
from monitor.model import Learned
from monitor.runs import store as runs
from monitor.runs import throttle_store as throttles

_PORTS = {"https": 443, "http": 80}
_PEPPER = secrets.token_bytes(32)
_known_keys: dict[bytes, str] = {}
"""Names of API keys that this process made already, under hashes that are of use to nobody else."""


def throttle_key(target: Target) -> str:
    """The name of a target's origin and credential: 32 hexadecimal digits.

    It is stored, so it must not help anybody to an API key: scrypt (RFC 7914) makes each guess cost about 10 ms and
    4 MiB, which a process pays once per key. A client's id is no secret (RFC 6749, 2.2), and its secret is not part of
    the name: when it is rotated, the account is the same.

    Reads the file of an API key, if it is in one. A key that can't be read shares nothing with other targets.
    """
    origin, credential = origin_of(target).encode(), _credential(target).encode()
    if not isinstance(target.auth, ApiKeyAuth):
        return hashlib.blake2b(origin + b"\n" + credential, digest_size=16).hexdigest()
    known = hashlib.blake2b(origin + b"\n" + credential, key=_PEPPER).digest()
    if known not in _known_keys:
        _known_keys[known] = hashlib.scrypt(credential, salt=origin, n=1 << 12, r=8, p=1, dklen=16).hex()
    return _known_keys[known]


def same_key(one: Target, another: Target) -> bool:
    """Whether both have one key, at a hundredth of the cost of making it."""
    return origin_of(one) == origin_of(another) and _credential(one) == _credential(another)


def origin_of(target: Target) -> str:
    """Where a target's API is: `scheme://host:port`, the host in lower case, the port always there (RFC 6454, 4)."""
    parts = urlsplit(target.base_url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[parts.scheme]}"


def _credential(target: Target) -> str:
    """Names a credential; the word before the colon keeps a key that looks like a client's id apart from it."""
    if target.auth is None:
        return "none"
    if not isinstance(target.auth, ApiKeyAuth):
        return f"client:{target.auth.client_id}"
    try:
        return f"key:{target.auth.api_key.reveal()}"
    except ConfigError:
        # the run finds it out as well, and says so
        return f"setting:targets.{target.name}.auth.api_key"


SHARE_S = 10.0
"""So often, in seconds, processes that run at the same time tell each other of hints, and later ones of the rest."""


class Sharing:
    """The live throttles of one process, one per origin and credential."""

    def __init__(self) -> None:
        self._live: dict[str, Throttle] = {}
        self._sharers: dict[str, set[str]] = {}
        """The names of the targets on each key."""
        self.keys: dict[str, str] = {}
        """The key of each target that ran here, by name: making one costs too much to be done for a look."""

    @asynccontextmanager
    async def throttle(
        self, target: Target, among: Sequence[Target], engine: Engine, *, utcnow: Callable[[], datetime] = utcnow
    ) -> AsyncIterator[Throttle]:
        """The throttle for one run over a target, as earlier runs and other processes left it.

        Args:
            target: whose run begins.
            among: all that are configured: those on one key are held to the strictest of their rates and shares.
            engine: where it is kept.
            utcnow: the clock.
        """
        key = await asyncio.to_thread(throttle_key, target)
        learned = await asyncio.to_thread(_read, engine, key)
        throttle = self._live.get(key)
        if throttle is None:
            together = await asyncio.to_thread(_together, target, among)
            throttle = self._live.setdefault(key, _made([each.check for each in together], learned, utcnow))
            self._sharers.setdefault(key, set()).update(each.name for each in together)
        self._sharers[key].add(target.name)
        self.keys[target.name] = key
        if learned is not None:
            throttle.inherit(learned)
        # of several targets on one key the one that was refused most holds all of them back
        throttle.restrain(await asyncio.to_thread(_restraint, engine, sorted(self._sharers[key])))
        throttle.breaker.begin()
        telling = asyncio.create_task(_tell_on(engine, key, target, throttle))
        try:
            yield throttle
        finally:
            telling.cancel()
            (ended,) = await asyncio.gather(telling, return_exceptions=True)
            if isinstance(ended, Exception):
                structlog.get_logger().error("throttle_not_shared", reason=type(ended).__name__)
            await asyncio.to_thread(_write, engine, key, target, throttle.learned())


def _together(target: Target, among: Sequence[Target]) -> Sequence[Target]:
    """The target and the others on its key."""
    return [target, *(each for each in among if each.name != target.name and same_key(each, target))]


def _made(checks: Sequence[CheckConfig], learned: Learned | None, utcnow: Callable[[], datetime]) -> Throttle:
    rates = [check.rate for check in checks if check.rate is not None]
    return Throttle(
        pace=Pace(
            ceiling_per_s=min(rates, default=None),
            share=min(check.rate_share for check in checks),
            learned_per_s=learned.rate_per_s if learned else None,
        ),
        concurrency=Concurrency(max(check.concurrency for check in checks), learned.concurrency if learned else None),
        breaker=Breaker(down=learned.down if learned else False),
        utcnow=utcnow,
    )


def lend(targets: Sequence[Target], *, lender: Engine, borrower: Engine) -> None:
    """Copies what was learned about the targets' APIs from one database to another, such as that of a dry run.

    Args:
        targets: which.
        lender: only read; one that can't be, or is not there yet, lends nothing.
        borrower: at this program's schema.
    """
    keys = {throttle_key(target): target for target in targets}
    try:
        with reading(lender) as conn:
            known = {key: throttles.read(conn, key=key) for key in keys}
    except StoreError as error:
        structlog.get_logger().debug("throttles_not_lent", reason=str(error))
        return
    for key, learned in known.items():
        if learned is not None:
            _write(borrower, key, keys[key], learned)


async def _tell_on(engine: Engine, key: str, target: Target, throttle: Throttle) -> None:
    while True:
        await asyncio.sleep(SHARE_S)
        await asyncio.to_thread(_write, engine, key, target, throttle.learned())
        learned = await asyncio.to_thread(_read, engine, key)
        if learned is not None:
            throttle.inherit(learned)


def _read(engine: Engine, key: str) -> Learned | None:
    try:
        with reading(engine) as conn:
            return throttles.read(conn, key=key)
    except StoreError as error:
        # the run itself meets the same database, and says so; what it may send it finds out anew
        warn_rarely("throttle_not_read", reason=str(error))
        return None


def _restraint(engine: Engine, targets: Sequence[str]) -> float:
    """The smallest share of rate and concurrency that any of the targets is to take."""
    try:
        with reading(engine) as conn:
            return runs.least_restraint(conn, targets=targets)
    except StoreError as error:
        warn_rarely("restraint_not_read", reason=str(error))
        return NONE


def _write(engine: Engine, key: str, target: Target, learned: Learned) -> None:
    try:
        with writing(engine) as conn:
            throttles.write(conn, key=key, origin=origin_of(target), learned=learned)
    except StoreError as error:
        warn_rarely("throttle_not_written", reason=str(error))
