"""PostgreSQL engines with timeouts: a silent network, a frozen server or a held lock becomes an error after a while."""

import time
from collections.abc import Generator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import URL, Engine, create_engine, event

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
    # a host that disappeared is noticed after a minute
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SESSION_TIMEOUTS = (("lock_timeout", "30s"), ("idle_in_transaction_session_timeout", "90s"))
"""The server ends a session that holds a lock but is dead, frozen or stopped. Reading a sync log leaves our transaction
idle for less than that."""

_T = TypeVar("_T")


def postgres_engine(url: URL, *, statement_timeout_s: float | None = STATEMENT_TIMEOUT_S, **options: Any) -> Engine:  # noqa: ANN401  # handed on
    """An engine with these timeouts; settings of the URL, the role or the database win. Connects at first use."""
    given = {**_CONNECT_ARGUMENTS, **options.pop("connect_args", {})}
    arguments = {name: value for name, value in given.items() if name not in url.query}
    engine = create_engine(url, hide_parameters=True, connect_args=arguments, **options)

    @event.listens_for(engine, "do_connect")
    def connect(
        _dialect: object, _record: object, positional: list[Any], named: dict[str, Any]
    ) -> "psycopg.Connection":
        session = _session_type().connect(*positional, **named)
        try:
            _configure_session(session, statement_timeout_s)
        except BaseException:
            session.close()
            raise
        return session

    return engine


def _configure_session(session: "psycopg.Connection", statement_timeout_s: float | None) -> None:
    """Sets timeouts that have no value yet; by statements, since PgBouncer rejects them as startup parameters."""
    timeouts = (
        _SESSION_TIMEOUTS
        if statement_timeout_s is None
        else (*_SESSION_TIMEOUTS, ("statement_timeout", f"{statement_timeout_s:g}s"))
    )
    rows = ", ".join(f"('{name}', '{limit}')" for name, limit in timeouts)
    cast("Any", session).statement_timeout_s = statement_timeout_s
    session.autocommit = True
    session.execute("SET TIME ZONE 'UTC'")
    session.execute(
        f"SELECT set_config(name, most, false) FROM (VALUES {rows}) AS limits (name, most) "  # noqa: S608  # ours alone
        "WHERE current_setting(name, true) = '0'"
    )
    session.autocommit = False


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
