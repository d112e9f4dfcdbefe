"""Procrastinate's connection to PostgreSQL, with the settings of our own engine. It knows nothing of jobs.

Behind PgBouncer in transaction mode nothing stays in a session: each query is a transaction of its own that brings its
`search_path`, no statement is prepared, and LISTEN has a direct connection or is not used.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import psycopg
from procrastinate import exceptions
from procrastinate.connector import BaseAsyncConnector, Notify
from psycopg import sql
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from sqlalchemy import URL

from monitor.database.engine import store_error
from monitor.database.postgres import connect_arguments, transaction_settings
from monitor.database.urls import location_of
from monitor.errors import SchemaError, StoreError, StoreUnavailableError
from monitor.fleet.queue_schema import SCHEMA

_Cursor: TypeAlias = psycopg.AsyncCursor[DictRow]

_STATEMENT_TIMEOUT_S, _CLIENT_TIMEOUT_S = 30.0, 40.0
_IDLE_TIMEOUT_S = 15.0
"""A worker that is frozen while it takes a job keeps the job locked for so long, and others pass over it."""
_POOL_TIMEOUT_S = 5.0
_RECONNECT_S = 5.0
"""The pool doubles its pauses between attempts until then, and begins anew with the next query."""
_NO_QUEUE = frozenset({"3F000", "42704", "42883", "42P01"})
"""SQLSTATEs of a missing schema, type, function and table."""
_LISTEN_CHECK_S = 30.0
_LISTEN_RETRY_S = 1.0
_SETTINGS = transaction_settings(
    statement_timeout_s=_STATEMENT_TIMEOUT_S, idle_timeout_s=_IDLE_TIMEOUT_S, settings={"search_path": SCHEMA}
)
_BEGIN = f"BEGIN ISOLATION LEVEL READ COMMITTED; {_SETTINGS}"
"""As our own engine: under a stricter default of the database, workers that look for jobs at the same time conflict."""


class QueueConnector(BaseAsyncConnector):
    """Runs Procrastinate's queries, each in one transaction. `connections` (≥ 1): at most so many at a time.

    Its errors are Procrastinate's; `translate_queue_errors` makes ours of them.
    """

    def __init__(self, url: URL, *, listen_url: URL | None = None, connections: int = 4) -> None:
        self.url, self._listen_url = url, listen_url or url
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            kwargs=_arguments(url),
            min_size=1,
            max_size=connections,
            open=False,
            check=AsyncConnectionPool.check_connection,
            timeout=_POOL_TIMEOUT_S,
            reconnect_timeout=_RECONNECT_S,
            name="queue",
        )

    async def open_async(self, pool: Any | None = None) -> None:  # noqa: ANN401, ARG002  # Procrastinate's signature
        """Begins to connect; queries wait for it."""
        await self._pool.open()

    async def close_async(self) -> None:
        """Closes all connections."""
        await self._pool.close()

    async def execute_query_async(self, query: str, **arguments: object) -> None:
        """Runs a query without a result."""
        async with self._executed(query, arguments):
            pass

    async def execute_query_one_async(self, query: str, **arguments: object) -> dict[str, Any]:
        """The first row of a query. Raises NoResult if it has none."""
        async with self._executed(query, arguments) as cursor:
            row = await cursor.fetchone()
        if row is None:
            raise exceptions.NoResult
        return row

    async def execute_query_all_async(self, query: str, **arguments: object) -> list[dict[str, Any]]:
        """All rows of a query."""
        async with self._executed(query, arguments) as cursor:
            return await cursor.fetchall()

    @asynccontextmanager
    async def _executed(self, query: str, arguments: Mapping[str, Any]) -> AsyncIterator[_Cursor]:
        """A cursor with the result; the pool commits at the end."""
        with _psycopg_errors():
            async with asyncio.timeout(_CLIENT_TIMEOUT_S), self._pool.connection() as conn:
                await conn.execute(_BEGIN)
                async with conn.cursor(row_factory=dict_row) as cursor:
                    await cursor.execute(query.encode(), {name: _adapt(value) for name, value in arguments.items()})
                    yield cursor

    async def can_listen(self) -> bool:
        """Whether notifications arrive: a pooler hands out another session than it connects.

        Raises StoreError if the server can't be reached.
        """
        try:
            async with await psycopg.AsyncConnection.connect(**_arguments(self._listen_url)) as conn:
                row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
                return row is not None and row[0] == conn.info.backend_pid
        except psycopg.Error as error:
            raise store_error(error, self._listen_url) from error

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Passes on notifications until it is cancelled. A lost connection is replaced; jobs are polled meanwhile."""
        listens = [sql.SQL("LISTEN {}").format(sql.Identifier(each)) for each in channels]
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(**_arguments(self._listen_url)) as conn:
                    for listen in listens:
                        await conn.execute(listen)
                    while True:
                        async for each in conn.notifies(timeout=_LISTEN_CHECK_S):
                            await on_notification(channel=each.channel, payload=each.payload)
                        await conn.execute("SELECT 1")
            except psycopg.Error:
                await asyncio.sleep(_LISTEN_RETRY_S)


def _arguments(url: URL) -> dict[str, Any]:
    return {**connect_arguments(url), "autocommit": True, "prepare_threshold": None}


def _adapt(value: object) -> object:
    """Procrastinate's arguments as psycopg's: objects become JSON, also inside of rows and arrays."""
    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, list):
        return [_adapt(each) for each in value]
    if isinstance(value, tuple):
        return tuple(_adapt(each) for each in value)
    return value


@contextmanager
def _psycopg_errors() -> Iterator[None]:
    """Turns errors of psycopg into Procrastinate's, which tell a duplicate from a fault."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        name = error.diag.constraint_name
        raise exceptions.UniqueViolation(constraint_name=name, queueing_lock=None) from error
    except (psycopg.Error, TimeoutError) as error:
        raise exceptions.ConnectorException from error


@contextmanager
def translate_queue_errors(url: URL) -> Iterator[None]:
    """Turns Procrastinate's errors about the database into a `StoreError` of one sentence."""
    try:
        yield
    except exceptions.ConnectorException as error:
        raise queue_fault(error, url) from error


def queue_fault(error: exceptions.ConnectorException, url: URL) -> StoreError:
    """What an error of Procrastinate about the database means."""
    cause = error.__cause__
    if isinstance(cause, TimeoutError | PoolTimeout):
        return StoreUnavailableError(
            f"database PostgreSQL {location_of(url)} did not answer the queue in time; check its load, then run again"
        )
    if getattr(cause, "sqlstate", None) in _NO_QUEUE:
        reason = "has no queue for workers, or one that does not fit; run `ingestion-monitor db upgrade`"
        return SchemaError(f"database PostgreSQL {location_of(url)} {reason}", needs_upgrade=True)
    return store_error(cause if isinstance(cause, Exception) else error, url)
