"""PostgreSQL engines with timeouts: a silent network, a frozen server or a held lock becomes an error after a while.

A connection may be a pooler's (PgBouncer in transaction mode): the next transaction on it may be another program's, and
ours may run in another session. So nothing is set for a session, no statement is prepared, and each transaction brings
its own settings.
"""

import time
from collections.abc import Generator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event

from monitor.database.postgres_faults import find_sqlstate
from monitor.database.postgres_url import connection_parameters

if TYPE_CHECKING:
    import psycopg


STATEMENT_TIMEOUT_S = 120.0
"""Time limit of a statement in seconds; the server enforces it, or the client if the server does not respond."""
CLIENT_TIMEOUT = "no answer within"
_CLIENT_MARGIN_S = 10.0
"""The client waits longer than the server, whose error keeps the connection usable."""

_CONNECT_ARGUMENTS: Mapping[str, object] = {
    "connect_timeout": 10,
    "application_name": "ingestion-monitor",
    # a database in SQL_ASCII would hand out bytes
    "client_encoding": "utf8",
    # a host that disappeared is noticed after a minute
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SETTINGS: Mapping[str, str] = {"TimeZone": "UTC"}
_TIMEOUTS: Mapping[str, str] = {"lock_timeout": "30s", "idle_in_transaction_session_timeout": "90s"}
"""The server ends a session that holds a lock but is dead, frozen or stopped. Reading a sync log leaves our transaction
idle for less than that."""

_T = TypeVar("_T")


def postgres_engine(
    url: URL,
    *,
    statement_timeout_s: float | None = STATEMENT_TIMEOUT_S,
    settings: Mapping[str, str] | None = None,
    isolation: str = "READ COMMITTED",
    **options: Any,  # noqa: ANN401  # handed on
) -> Engine:
    """An engine with these timeouts, where those of the role or the database are not shorter. Connects at first use.

    `settings` and `isolation` hold in each transaction. Parameters of the URL win over `connect_args`.
    """
    parameters = connect_arguments(url, **options.pop("connect_args", {}))
    engine = create_engine(url, hide_parameters=True, **options)
    settle = transaction_settings(statement_timeout_s=statement_timeout_s, settings=settings)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, _args: object, named: Mapping[str, Any]) -> "psycopg.Connection":
        return _connect({**named, **parameters}, statement_timeout_s)

    @event.listens_for(engine, "begin")
    def begin_transaction(conn: Connection) -> None:
        # with the settings in one message: a transaction costs no further round trip
        access = " READ ONLY" if conn.get_execution_options().get("postgresql_readonly") else ""
        conn.exec_driver_sql(
            f"BEGIN ISOLATION LEVEL {isolation}{access}; {settle}",
            execution_options={"stream_results": False, "yield_per": None},  # whatever the first query wants
        )

    return engine


def connect_arguments(url: URL, **defaults: object) -> dict[str, Any]:
    """What psycopg connects with, timeouts included; the parameters of the URL win. They hold the password."""
    return {**_CONNECT_ARGUMENTS, **defaults, **connection_parameters(url)}


def transaction_settings(
    *, statement_timeout_s: float | None, idle_timeout_s: float | None = None, settings: Mapping[str, str] | None = None
) -> str:
    """The statements that a transaction begins with: `settings` and ours, and timeouts where none are shorter."""
    timeouts = dict(_TIMEOUTS)
    if idle_timeout_s is not None:
        timeouts["idle_in_transaction_session_timeout"] = f"{idle_timeout_s:g}s"
    if statement_timeout_s is not None:
        timeouts["statement_timeout"] = f"{statement_timeout_s:g}s"
    wanted = {**_SETTINGS, **(settings or {})}
    return "; ".join([*(f"SET LOCAL {name} = '{value}'" for name, value in wanted.items()), shorten_timeouts(timeouts)])


def shorten_timeouts(timeouts: Mapping[str, str]) -> str:
    """The statement that sets these timeouts (`{"lock_timeout": "30s"}`) for the present transaction.

    A timeout that is shorter already stays: somebody who administers the database wants it so.
    """
    rows = ", ".join(f"('{name}', '{limit}')" for name, limit in timeouts.items())
    return (
        f"SELECT set_config(name, most, true) FROM (VALUES {rows}) AS limits (name, most) "  # noqa: S608  # ours alone
        "WHERE current_setting(name, true)::interval NOT BETWEEN '1 microsecond' AND most::interval"
    )


def _connect(parameters: Mapping[str, Any], statement_timeout_s: float | None) -> "psycopg.Connection":
    import psycopg

    try:
        # psycopg leaves transactions to us; and a prepared statement would be missing in the next session of a pooler
        session = _session_type().connect(**parameters, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        sqlstate = find_sqlstate(error, parameters)
        if sqlstate is None:
            raise
        raise psycopg.errors.lookup(sqlstate)(str(error)) from error
    cast("Any", session).statement_timeout_s = statement_timeout_s
    return session


@cache
def _session_type() -> "type[psycopg.Connection]":
    """A connection with a client-side timeout. A function, so that the driver is loaded only if it is used."""
    import psycopg

    class Session(psycopg.Connection):
        statement_timeout_s: float | None = STATEMENT_TIMEOUT_S

        def wait(self, gen: Generator[Any, Any, _T], *args: Any, **kwargs: Any) -> _T:  # noqa: ANN401  # handed on
            if self.statement_timeout_s is None:
                return super().wait(gen, *args, **kwargs)
            return super().wait(self._with_timeout(gen, self.statement_timeout_s + _CLIENT_MARGIN_S), *args, **kwargs)

        def _with_timeout(self, gen: Generator[Any, Any, _T], timeout_s: float) -> Generator[Any, Any, _T]:
            """The same exchange with the server, with a timeout. The driver calls this ten times a second."""
            ends_s = time.monotonic() + timeout_s
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if not ready and time.monotonic() >= ends_s:
                        self.close()  # its state is unknown
                        raise psycopg.OperationalError(f"{CLIENT_TIMEOUT} {timeout_s:g} s")
                    wanted = gen.send(ready)
            except StopIteration as end:
                return cast("_T", end.value)

    return Session
