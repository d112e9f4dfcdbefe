"""What errors of PostgreSQL mean: by SQLSTATE, which is the same in every language, else by libpq's English texts."""

import os
import re
import select
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn


class DatabaseFault(StrEnum):
    """Kinds of database errors, of SQLite too."""

    LOCKED = "locked"
    CONFLICT = "conflict"
    """A transaction that would have succeeded alone, or at another moment."""
    READ_ONLY = "read_only"
    HOT_JOURNAL = "hot_journal"
    """A SQLite file whose last writer was cut off in a transaction."""
    OTHER_NAME = "other_name"
    """A SQLite file whose journal or WAL may lie beside another name of it."""
    FULL = "full"
    CANNOT_OPEN = "cannot_open"
    NOT_A_DATABASE = "not_a_database"
    DISK = "disk"
    UNREACHABLE = "unreachable"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    LOST = "lost"
    LOGIN = "login"
    NOT_ADMITTED = "not_admitted"
    NO_ENCRYPTION = "no_encryption"
    ENCRYPTION_REQUIRED = "encryption_required"
    CERTIFICATE = "certificate"
    WRONG_SERVER = "wrong_server"
    REFUSED = "refused"
    NO_DATABASE = "no_database"
    ENCODING = "encoding"
    """A character that the encoding of the database lacks."""
    PERMISSION = "permission"
    NO_TABLE = "no_table"
    NOT_READY = "not_ready"
    FOREIGN_SERVER = "foreign_server"
    TIMEOUT = "timeout"
    OTHER = "other"


_SQLSTATES: Mapping[str, DatabaseFault] = {
    "08001": DatabaseFault.FOREIGN_SERVER,  # sent by a server, about a server behind a foreign table
    "22P05": DatabaseFault.ENCODING,
    "25006": DatabaseFault.READ_ONLY,
    "25P03": DatabaseFault.LOST,
    "25P04": DatabaseFault.LOST,
    "3D000": DatabaseFault.NO_DATABASE,
    "40001": DatabaseFault.CONFLICT,
    "40P01": DatabaseFault.LOCKED,
    "42501": DatabaseFault.PERMISSION,
    "42P01": DatabaseFault.NO_TABLE,
    "53100": DatabaseFault.FULL,
    "53300": DatabaseFault.TOO_MANY_CONNECTIONS,
    "55000": DatabaseFault.NOT_READY,
    "55P03": DatabaseFault.LOCKED,
    "57014": DatabaseFault.TIMEOUT,
    "57P01": DatabaseFault.LOST,
    "57P02": DatabaseFault.LOST,
    "57P03": DatabaseFault.UNREACHABLE,
    "57P05": DatabaseFault.LOST,
    "58030": DatabaseFault.DISK,
}
_SQLSTATE_CLASSES: Mapping[str, DatabaseFault] = {
    "08": DatabaseFault.LOST, "28": DatabaseFault.LOGIN, "HV": DatabaseFault.FOREIGN_SERVER
}  # fmt: skip

_SERVER_TEXTS: tuple[tuple[str, DatabaseFault], ...] = (
    (r"pg_hba\.conf.*no encryption|^SSL required", DatabaseFault.ENCRYPTION_REQUIRED),
    (r"pg_hba\.conf", DatabaseFault.NOT_ADMITTED),
    (r"authentication failed|^role |no such user", DatabaseFault.LOGIN),
    (r"^sorry, too many|^too many|^remaining connection slots|no more connections", DatabaseFault.TOO_MANY_CONNECTIONS),
    (r"the database system is|not currently accepting connections", DatabaseFault.UNREACHABLE),
    (r'^database ".*" does not exist|no such database', DatabaseFault.NO_DATABASE),
    (r"^permission denied", DatabaseFault.PERMISSION),
)
"""A server's (or PgBouncer's) refusals of a connection in English, to which libpq gives no SQLSTATE."""
_LIBPQ_TEXTS: tuple[tuple[str, DatabaseFault], ...] = (
    (r"does not support SSL|SSL negotiation|channel binding", DatabaseFault.NO_ENCRYPTION),
    (r"certificate|SSL error|private key", DatabaseFault.CERTIFICATE),
    (r"session is |hot standby mode", DatabaseFault.WRONG_SERVER),
    (r"password|authentication", DatabaseFault.LOGIN),
    (r"server closed the connection|connection is (lost|closed)", DatabaseFault.LOST),
    (r"no answer within", DatabaseFault.TIMEOUT),
    (r"connection timeout|timeout expired|connection failed|failed: ", DatabaseFault.UNREACHABLE),
    (r"failed to resolve|could not translate host name", DatabaseFault.UNREACHABLE),
)
"""What libpq and psycopg say themselves, always in English."""
_REFUSAL = re.compile(r"(?:failed: |^)([^\s:]+):  ([^\n]+)")
"""A server's refusal: its severity and text in its own language, as in `… failed: FATAL:  …`."""
_QUOTES = "[\"'\u201e\u201c\u201d\u00ab\u00bb\u201a\u2018\u2019\u300c\u300d\u300e\u300f]"
_QUOTED = re.compile(f"{_QUOTES}.*{_QUOTES}")
_MAX_REFUSAL = 200


def connection_text(fault: DatabaseFault, error: BaseException) -> str | None:
    """Why a server can't be connected to, and what to do; None for a fault of another kind."""
    if fault is DatabaseFault.REFUSED:
        return f"refused the connection: {refusal_of(error)}; see the server's log, and run again if it passes"
    return _CONNECTION_TEXTS.get(fault)


_CONNECTION_TEXTS: Mapping[DatabaseFault, str] = {
    DatabaseFault.NO_ENCRYPTION: (
        "offers no encryption (TLS) as the URL's sslmode and channel_binding require it; switch on ssl at the "
        "server, or set sslmode=prefer"
    ),
    DatabaseFault.ENCRYPTION_REQUIRED: (
        "takes this user only with encryption (TLS), and the connection had none; set sslmode=require in the URL"
    ),
    DatabaseFault.CERTIFICATE: (
        "can't be trusted: its TLS certificate, or a certificate or key file of ours, is missing or does not fit; "
        "check sslrootcert, sslcert and sslkey, and the host's name for sslmode=verify-full"
    ),
    DatabaseFault.NOT_ADMITTED: (
        "does not admit this user from this machine: pg_hba.conf has no entry; add one, or, if it has one of the type "
        "hostssl, set sslmode=require in the URL"
    ),
    DatabaseFault.WRONG_SERVER: (
        "can be reached, but it is not the server that target_session_attrs in the URL asks for; wait for the "
        "failover, or correct the hosts"
    ),
}


def postgres_fault(error: BaseException) -> DatabaseFault:
    """Classifies an error of psycopg; `OTHER` if unknown."""
    sqlstate, text = getattr(error, "sqlstate", None), str(error)
    if isinstance(sqlstate, str):
        if sqlstate == "28000" and "pg_hba.conf" in text:  # the file's name is the same in every language
            encryption = re.search("no encryption|SSL off", text)
            return DatabaseFault.ENCRYPTION_REQUIRED if encryption else DatabaseFault.NOT_ADMITTED
        return _SQLSTATES.get(sqlstate) or _SQLSTATE_CLASSES.get(sqlstate[:2], DatabaseFault.OTHER)
    refusals = _REFUSAL.findall(text)
    if not refusals:
        return _first_match(_LIBPQ_TEXTS, text) or DatabaseFault.OTHER
    return _first_match(_SERVER_TEXTS, refusals[-1][1]) or DatabaseFault.REFUSED


def _first_match(table: Sequence[tuple[str, DatabaseFault]], text: str) -> DatabaseFault | None:
    return next((fault for pattern, fault in table if re.search(pattern, text)), None)


def refusal_of(error: BaseException) -> str:
    """The first line of a server's refusal, without what it quotes (user, database, address)."""
    refusals = _REFUSAL.findall(str(error))
    text = _QUOTED.sub("…", refusals[-1][1]) if refusals else ""
    return "".join(each for each in text if each.isprintable())[:_MAX_REFUSAL].strip()


def find_sqlstate(error: BaseException, parameters: Mapping[str, object]) -> str | None:
    """The SQLSTATE of a server that refuses the connection in words that are not English; None if there is none.

    psycopg passes on libpq's text alone. libpq's trace of the protocol has the code, so the connection is tried again
    with a trace in memory. That needs Linux and libpq 17.
    """
    if postgres_fault(error) is not DatabaseFault.REFUSED:
        return None
    codes = re.findall(r'\tErrorResponse\t.*? C "([0-9A-Z]{5})"', _trace_of_connect(parameters))
    # a code that says nothing more is not worth the server's own words
    return codes[-1] if codes and (codes[-1] in _SQLSTATES or codes[-1].startswith("28")) else None


def _trace_of_connect(parameters: Mapping[str, object]) -> str:
    from psycopg import Error, pq
    from psycopg.conninfo import make_conninfo

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    conninfo = make_conninfo("", **{name: str(value) for name, value in parameters.items() if name in known})
    if not hasattr(os, "memfd_create"):
        return ""
    with os.fdopen(os.memfd_create("libpq-trace"), "r+b") as trace:  # in memory: it may hold the password
        connection = pq.PGconn.connect_start(conninfo.encode())
        try:
            connection.trace(trace.fileno())
            _poll(connection, time.monotonic() + float(str(parameters.get("connect_timeout") or 10)))
        except (Error, OSError):
            return ""  # the first error is what counts
        finally:
            connection.untrace()  # writes what is left
            connection.finish()
        trace.seek(0)
        return trace.read().decode(errors="replace")


def _poll(connection: "PGconn", ends_s: float) -> None:
    """Until the connection is made or refused, or the time is over."""
    from psycopg import pq

    status = pq.PollingStatus.WRITING
    while status in {pq.PollingStatus.READING, pq.PollingStatus.WRITING} and time.monotonic() < ends_s:
        sockets = [connection.socket]
        reading = status is pq.PollingStatus.READING
        select.select(sockets if reading else [], [] if reading else sockets, [], max(0.0, ends_s - time.monotonic()))
        status = pq.PollingStatus(connection.connect_poll())
