"""Sessions with a PostgreSQL server that come to an end: a network that goes silent, a server that stands still and a
lock that nobody lets go of are failures after a while, not a wait for ever. It knows no table and words no error.
"""

import time
from collections.abc import Generator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import URL, Engine, create_engine, event

if TYPE_CHECKING:
    import psycopg


STATEMENT_TIMEOUT_S = 120.0
"""How long, in seconds, one statement may take; the server ends it then, or we do when the server says nothing."""
CLIENT_TIMEOUT = "no answer within"
"""How the driver's error begins when it was us who gave up."""

_CLIENT_MARGIN_S = 10.0
"""Of the two that end a statement the server is to be the first: what it says keeps the connection usable."""

_CONNECT_ARGUMENTS: Mapping[str, object] = {
    "connect_timeout": 10,
    "application_name": "ingestion-monitor",
    # a host that vanished answers nothing: noticed after a minute, whether it owes an answer or only an acknowledgement
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SESSION_TIMEOUTS = (("lock_timeout", "30s"), ("idle_in_transaction_session_timeout", "90s"))
"""Whoever holds a lock and is gone, frozen or stopped is ended by the server, and nobody waits for it for long. Reading
a sync log leaves a transaction of ours idle: for less than that."""

_T = TypeVar("_T")


def postgres_engine(url: URL, *, statement_timeout_s: float | None = STATEMENT_TIMEOUT_S, **options: Any) -> Engine:  # noqa: ANN401  # handed on
    """An engine whose connections end; nothing is opened before its first use.

    What the URL, the role or the database says about any of this wins.

    Args:
        url: with the driver named.
        statement_timeout_s: how long one statement may take, in seconds (> 0); None: as long as it takes.
        options: of `create_engine`; `connect_args` are the driver's.
    """
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
    """Limits for the whole session, where nobody set any; as statements, since PgBouncer refuses them at the start."""
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
    """A connection that waits for no answer for ever. The driver is only loaded by those who use it."""
    import psycopg

    class Session(psycopg.Connection):
        statement_timeout_s: float | None = STATEMENT_TIMEOUT_S

        def wait(self, gen: Generator[Any, Any, _T], *args: Any, **kwargs: Any) -> _T:  # noqa: ANN401  # handed on
            if self.statement_timeout_s is None:
                return super().wait(gen, *args, **kwargs)
            return super().wait(self._with_timeout(gen, self.statement_timeout_s + _CLIENT_MARGIN_S), *args, **kwargs)

        def _with_timeout(self, gen: Generator[Any, Any, _T], timeout_s: float) -> Generator[Any, Any, _T]:
            """The same exchange with the server, given up after so many seconds. The driver looks in ten times each."""
            ends_s = time.monotonic() + timeout_s
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if not ready and time.monotonic() >= ends_s:
                        self.close()  # nobody knows what will still come over it
                        raise psycopg.OperationalError(f"{CLIENT_TIMEOUT} {timeout_s:g} s")
                    wanted = gen.send(ready)
            except StopIteration as end:
                return cast("_T", end.value)

    return Session
