"""Work under a lease, which is renewed until the work ends."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TypeVar

from monitor.errors import StoreError
from monitor.logs import warn_rate_limited
from monitor.runs.time_limit import settle
from monitor.threads import run_in_lease_pool

RENEWALS_PER_TTL = 3
"""A lease outlives two failed renewals."""
_T = TypeVar("_T")


async def keep_lease(work: Coroutine[None, None, _T], *, renew: Callable[[], None], ttl: timedelta) -> _T:
    """Renews a lease during the work, `RENEWALS_PER_TTL` times per `ttl`, and returns the result of the work.

    `renew` blocks and is called in a thread. Raises what the work raises, and LeaseLostError once `renew` raised it:
    then the work is cancelled first. A renewal that fails for the moment is logged.
    """
    working = asyncio.create_task(work)
    renewing = asyncio.create_task(_keep_renewing(renew, ttl))
    try:
        await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await settle(working)
            renewing.result()
        return await working
    finally:
        await settle(working, renewing)


async def _keep_renewing(renew: Callable[[], None], ttl: timedelta) -> None:
    while True:
        await asyncio.sleep(ttl.total_seconds() / RENEWALS_PER_TTL)
        try:
            await run_in_lease_pool(renew)
        except StoreError as error:
            # harmless for a while, since every write checks the epoch
            warn_rate_limited("lease_not_renewed", reason=str(error))
