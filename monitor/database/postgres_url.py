"""PostgreSQL connection URLs, read by libpq's own parser: several hosts, sockets and service files as libpq has them.

No error quotes a user, a password or a host. Before libpq reads a URL, unescaped special characters are refused: libpq
would take a part of the password for the host, and show it.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from sqlalchemy import URL

SCHEMES = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
DRIVER = "postgresql+psycopg"
ESCAPE = "@ as %40, : as %3A, / as %2F, ? as %3F, # as %23"
"""How special characters in user and password are written."""
SECRET_PARAMETERS = frozenset({"sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})

_UNESCAPED = f"has a special character in user or password that is not escaped: write {ESCAPE}"
_POOLER = "remove it, since the monitor works behind PgBouncer as it is"
_SCHEMA = "remove it; name a table outside the search_path as schema.table, or set options=-csearch_path%3Dname"
_OTHER_DRIVERS: Mapping[str, str] = {
    **dict.fromkeys(("pgbouncer", "connection_limit", "pool_timeout", "pool_size", "max_overflow"), _POOLER),
    **dict.fromkeys(("prepare_threshold", "prepared_statement_cache_size", "statement_cache_size"), _POOLER),
    **dict.fromkeys(("schema", "currentSchema", "search_path"), _SCHEMA),
    "ssl": "write sslmode=require",
    "sslaccept": "write sslmode=require, or sslmode=verify-full",
    "supa": "remove it",
}
"""What to do about parameters of other drivers (Prisma, asyncpg, SQLAlchemy, JDBC, Supabase's pooler)."""
_INTEGERS = frozenset({
    "connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
})  # fmt: skip
"""libpq reads these only when it connects."""
_SSL_MODES = "disable, allow, prefer, require, verify-ca or verify-full"
_HOST_WITH_PORT = re.compile(r"([A-Za-z0-9._-]*):(\d*)", re.ASCII)
_PORT, _MAX_PORT = re.compile(r"\d{1,5}", re.ASCII), 65535
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def parse_postgres_url(url: str) -> "URL":
    """Parses `postgresql://…` or `postgres://…`; what libpq's parser gave is in `query`, but user, password and name.

    Asks libpq about the values too; nothing is contacted. Raises ValueError with a predicate ("has …") otherwise.
    """
    _scheme, _, rest = url.partition("://")
    if not url.isprintable() or " " in url:
        raise ValueError("contains spaces or unprintable characters: escape them (a space as %20)")
    _reject_unescaped(rest)
    _reject_unknown_parameters(rest)
    parameters = _read_by_libpq(rest) | _separate_ports(rest)
    _check_hosts(parameters)
    if not {"dbname", "service"} & parameters.keys():
        raise ValueError("contains no database name: end it with /name")
    from sqlalchemy import URL  # not at the top: the configuration uses this module without it

    named = {"user", "password", "dbname"}
    parsed = URL.create(
        DRIVER,
        username=parameters.get("user"),
        password=parameters.get("password"),
        database=parameters.get("dbname"),
        query={name: value for name, value in parameters.items() if name not in named},
    )
    if fault := _invalid_value(parameters):
        raise ValueError(f"leads to {describe_server(parsed)} {fault}")
    return parsed


def connection_parameters(url: "URL") -> dict[str, str]:
    """The parameters of a parsed URL for libpq. They hold the password."""
    named = {"user": url.username, "password": url.password, "dbname": url.database}
    return {name: str(value) for name, value in {**url.query, **named}.items() if value is not None}


def has_secret(url: "URL") -> bool:
    """Whether a parsed URL holds a password or another secret."""
    return bool(url.password) or not SECRET_PARAMETERS.isdisjoint(url.query)


def describe_server(url: "URL") -> str:
    """`host:port,host:port/name` of a parsed URL, never with user or password."""
    name, service = url.database or "", url.query.get("service")
    hosts = str(url.query.get("host") or url.query.get("hostaddr") or "")
    if service and not hosts:
        return f"service {service}/{name}" if name else f"service {service}"
    if "@" in hosts:
        return f"an unreadable host/{name}"
    ports = str(url.query.get("port") or "").split(",")
    places = hosts.split(",")
    ports = ports * len(places) if len(ports) == 1 else ports
    pairs = zip(places, ports, strict=False)
    return ",".join(f"{_bracketed(host) or 'localhost'}:{port or 5432}" for host, port in pairs) + f"/{name}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("/") else host


def _reject_unescaped(rest: str) -> None:
    head, _, query = rest.partition("?")
    authority, slash, path = head.partition("/")
    user_info, _, hosts = authority.rpartition("@")
    # an @ may be in a value of the query, if all before it is whole
    query_fits = "@" not in query or (slash and all(name in _known() for name, _ in _pairs(query)))
    if {"@", "#"} & set(user_info) or user_info.count(":") > 1 or "#" in hosts or "@" in path or not query_fits:
        raise ValueError(_UNESCAPED)
    if _NO_ESCAPE.search(rest):
        raise ValueError("contains a % that begins no escape: write a percent sign as %25")


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        yield (name if equals else "", value)


def _known() -> set[str]:
    """The names of libpq's parameters; the installed version may have more than another."""
    from psycopg import pq

    return {option.keyword.decode() for option in pq.Conninfo.get_defaults()}


def _reject_unknown_parameters(rest: str) -> None:
    known = _known()
    for name, value in _pairs(rest.partition("?")[2]):
        if name in known or (name, value) == ("ssl", "true"):  # libpq takes that from JDBC
            continue
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}", name):
            raise ValueError("has a query that is not name=value&name=value: correct it, or escape ? as %3F")
        near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.8)
        remedy = _OTHER_DRIVERS.get(name) or (f"did you mean {near[0]}?" if near else "remove it")
        raise ValueError(f'has the parameter "{name}", which libpq (PostgreSQL\'s library) does not know: {remedy}')


def _read_by_libpq(rest: str) -> dict[str, str]:
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        return {name: str(value) for name, value in conninfo_to_dict(f"postgresql://{rest}").items()}
    except Error:
        # its text may hold a part of the password
        raise ValueError(f"can't be read by libpq: escape special characters in user and password ({ESCAPE})") from None


def _separate_ports(rest: str) -> dict[str, str]:
    """Hosts and ports of SQLAlchemy's form `?host=a:1&host=b:2`, as libpq wants them; empty for any other form."""
    pairs = list(_pairs(rest.partition("?")[2]))
    hosts = [host for name, value in pairs if name == "host" for host in unquote(value).split(",")]
    matches = [_HOST_WITH_PORT.fullmatch(host) for host in hosts]
    if not hosts or any(name == "port" for name, _ in pairs) or (len(hosts) == 1 and not any(matches)):
        return {}
    separate = [(match[1], match[2]) if match else (host, "") for host, match in zip(hosts, matches, strict=True)]
    found = {"host": ",".join(host for host, _ in separate)}
    return found | ({"port": ",".join(port for _, port in separate)} if any(matches) else {})


def _check_hosts(parameters: dict[str, str]) -> None:
    hosts = (parameters.get("host") or parameters.get("hostaddr") or "").split(",")
    if "@" in parameters.get("host", "") + parameters.get("hostaddr", ""):
        raise ValueError(f"has a host with an @ in it: escape it in user and password ({ESCAPE})")
    ports = parameters["port"].split(",") if parameters.get("port") else []
    if any(port and not (_PORT.fullmatch(port) and 0 < int(port) <= _MAX_PORT) for port in ports):
        raise ValueError(f"has a port that is no number from 1 to {_MAX_PORT}: correct it, or escape : as %3A")
    if len(ports) > 1 and len(ports) != len(hosts):
        raise ValueError("has not one port for each host: give each host its port, or all the same")
    if len(ports) == 1 and len(hosts) > 1:
        parameters["port"] = ",".join(ports * len(hosts))
    if len(hosts) > 1 and "host" not in parameters:
        raise ValueError("has several values of hostaddr without host: name the hosts too")


def _invalid_value(parameters: Mapping[str, str]) -> str | None:
    """What libpq would not accept. It checks values before it connects: here to a socket that does not exist."""
    from psycopg import pq
    from psycopg.conninfo import make_conninfo

    for name in sorted(_INTEGERS & parameters.keys()):
        if not re.fullmatch(r"-?\d{1,9}", parameters[name], re.ASCII):
            return f"with a value of {name} that is not a whole number: correct it"
    local = {name: value for name, value in parameters.items() if name not in {"hostaddr", "password"}}
    connection = pq.PGconn.connect_start(make_conninfo("", **{**local, "host": "/", "port": "1"}).encode())
    try:
        complaint = connection.get_error_message()
    finally:
        connection.finish()
    if "connection to server" in complaint:
        return None
    if "service" in complaint:
        return "which libpq does not find: correct the name, or PGSERVICEFILE, or ~/.pg_service.conf"
    name = next((each for each in sorted(local, key=len, reverse=True) if each in complaint), "")
    choices = f"use {_SSL_MODES}" if "sslmode" in complaint else "see libpq's documentation"
    return f"with a value of {name} that libpq does not know: {choices}" if name else None
