"""The daily pruning as the daemon does it: in a thread beside its loop, once a day among all daemons, and logged."""

import asyncio
from collections.abc import Callable

import structlog

from monitor.report.pruning import refused
from monitor.retention import Ending, Pruned, Pruner
from monitor.wiring import App, holder

__all__ = ["prune"]


async def prune(app: App, *, stop: Callable[[], bool]) -> None:
    """Prunes what is older than the configuration says, unless that was done today.

    Args:
        app: the configuration in force, and the database in use.
        stop: asked between transactions whether to end.

    Raises:
        StoreError: the database can't be used.
    """
    pruner = Pruner(app.engine, app.config.retention.ages(), holder=holder(), utcnow=app.clock, stop=stop)
    _tell(await asyncio.to_thread(pruner, daily=True))


def _tell(pruned: Pruned) -> None:
    log = structlog.get_logger()
    if pruned.ending is Ending.REFUSED and pruned.refusal is not None:
        log.warning("pruning_refused", reason=refused(pruned.refusal))
    elif pruned.ending in {Ending.DONE, Ending.INTERRUPTED}:
        rows = {past.value: count for past, count in pruned.rows.items()}
        longest_ms = round(pruned.longest_s * 1000)
        log.info("pruned", ending=pruned.ending.value, **rows, bytes_freed=pruned.freed, longest_ms=longest_ms)
