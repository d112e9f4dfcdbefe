"""Checks the names of the table and its columns in the database's catalog, before any query uses them.

SQLite reads an unknown quoted column as text, so a misspelt name would be returned as an id.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import msgspec
from sqlalchemy import Connection, literal_column, select, text
from sqlalchemy import table as table_named
from sqlalchemy.exc import OperationalError
from sqlalchemy.sql.elements import quoted_name

from monitor.database.urls import location_of
from monitor.errors import SyncLogError
from monitor.synclog.connection import Condition, SyncLogSpec


class ResolvedTable(msgspec.Struct, frozen=True, kw_only=True):
    """The names as spelt in the catalog."""

    schema: str | None
    table: str
    id_column: str
    submitted_at_column: str | None
    group_column: str | None
    updated_at_column: str | None = None
    param_columns: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By parameter."""
    is_view: bool = False
    """A view of SQLite."""
    rowid: str | None = None
    """The name of the rowid of a SQLite table; None for views and tables without one."""
    types: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By column, how its values become text: see `_POSTGRES_COLUMNS`."""
    type_names: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By column, its type as the database writes it; on SQLite as declared, which may be empty."""
    where: Mapping[str, Condition] = msgspec.field(default_factory=dict)
    """By column as spelt in the catalog."""


_QUALIFIED = re.compile(r'(?P<schema>"(?:[^"]|"")+"|[^".]+)\.(?P<table>"(?:[^"]|"")+"|[^"].*)')
"""`schema.table`, each with or without SQL's quotes."""

_SQLITE_TABLES = text("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')")
_SQLITE_COLUMNS = text("""
    SELECT m.type AS table_type, x.name, x.type,
      CASE WHEN upper(x.type) IN ('BOOLEAN', 'BOOL') THEN 'none' ELSE 'raw' END AS kind
    FROM sqlite_master m JOIN pragma_table_xinfo(m.name) x
    WHERE m.name = :table AND m.type IN ('table', 'view') AND x.hidden <> 1 ORDER BY x.cid
""")

_POSTGRES_TABLES = text("""
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid) OR lower(n.nspname) = lower(:schema))
    ORDER BY n.nspname = :schema  -- of two names that differ only in case, the exact one comes last and wins
""")
_POSTGRES_SCHEMAS = text("""
    SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND c.relname = :table
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY n.nspname LIMIT 5
""")
# json: also a text is in quotes there. raw: a number or bytes, as the driver reads it. text: as the server writes it.
# none: the same, but no value of the type is an id (booleans, arrays, records, shapes, ranges, …)
_POSTGRES_COLUMNS = text("""
    SELECT a.attname AS name, format_type(b.oid, a.atttypmod) AS type,
      CASE WHEN b.typname IN ('json', 'jsonb') THEN 'json'
           WHEN b.typcategory IN ('A', 'B', 'C', 'G', 'R') OR b.typname IN ('hstore', 'xml', 'tsvector') THEN 'none'
           WHEN b.typname = 'bytea' OR b.typcategory = 'N' AND b.typname <> 'money' THEN 'raw' ELSE 'text' END AS kind
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    WHERE n.nspname = :schema AND c.relname = :table AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
""")


def resolve_table(conn: Connection, spec: SyncLogSpec) -> ResolvedTable:
    """Finds the table and its columns by exact name, else by the only name that differs just in case.

    Raises SyncLogError, with close matches, if a name is missing or ambiguous.
    """
    where = f"sync log {location_of(conn.engine.url)}"
    schema, table, is_view, found = _table_with_columns(conn, spec.table, where)
    columns = list(found)

    def column(name: str) -> str:
        return _match(name, columns, f'{where}, table "{table}": it has no column "{name}"')

    id_column = column(spec.id_column)
    kind, type_name = found[id_column]
    if kind == "none":
        raise SyncLogError(
            f'{where}, table "{table}": its column "{id_column}" is of the type {type_name}, no value of which is an '
            "id; name the column with the API's ids"
        )
    return ResolvedTable(
        schema=schema,
        table=table,
        id_column=id_column,
        submitted_at_column=column(spec.submitted_at_column) if spec.submitted_at_column else None,
        group_column=column(spec.group_column) if spec.group_column else None,
        updated_at_column=column(spec.updated_at_column) if spec.updated_at_column else None,
        param_columns={param: column(name) for param, name in spec.param_columns.items()},
        is_view=is_view,
        rowid=_rowid_name(conn, table, columns) if schema is None and not is_view else None,
        types={name: kind for name, (kind, _) in found.items()},
        type_names={name: type_name for name, (_, type_name) in found.items()},
        where={column(name): condition for name, condition in spec.where.items()},
    )


_Columns = dict[str, tuple[str, str]]
"""The kinds and types of the columns by name, in their order."""


def _table_with_columns(conn: Connection, name: str, where: str) -> tuple[str | None, str, bool, _Columns]:
    """The schema and the name of a table, whether it is a view of SQLite, and its columns."""
    if conn.dialect.name == "sqlite":
        return None, *_in_sqlite(conn, name, where)
    schema, table = _in_postgres(conn, name, where)
    rows = conn.execute(_POSTGRES_COLUMNS, {"table": table, "schema": schema})
    return schema, table, False, {row.name: (row.kind, row.type) for row in rows}


def _in_sqlite(conn: Connection, name: str, where: str) -> tuple[str, bool, _Columns]:
    """Each value has a type of its own: a column's is the declared one."""
    rows = conn.execute(_SQLITE_COLUMNS, {"table": name}).all()
    if not rows:
        types = {row.name: row.type for row in conn.execute(_SQLITE_TABLES)}
        name = _match(name, list(types), f'{where} has no table "{name}"')
        rows = conn.execute(_SQLITE_COLUMNS, {"table": name}).all()
    is_view = any(row.table_type == "view" for row in rows)
    return name, is_view, {row.name: (row.kind, row.type) for row in rows}


def _in_postgres(conn: Connection, name: str, where: str) -> tuple[str, str]:
    """The schema and the name of a table."""
    visible = _postgres_tables(conn, None)
    qualified = None if name in visible else _QUALIFIED.fullmatch(name)
    if qualified:
        schema, rest = (_unquoted(qualified[part]) for part in ("schema", "table"))
        tables = _postgres_tables(conn, schema)
        table = _match(rest, list(tables), f'{where} has no table "{rest}" in the schema "{schema}"')
        return tables[table], table
    name = _unquoted(name)
    if name.casefold() not in map(str.casefold, visible):
        schemas = conn.execute(_POSTGRES_SCHEMAS, {"table": name}).scalars().all()
        if schemas:
            there = " or ".join(f'"{schema}.{name}"' for schema in schemas)
            raise SyncLogError(f'{where} has no table "{name}" in its search_path; there is {there}: name it so')
    table = _match(name, list(visible), f'{where} has no table "{name}"')
    return visible[table], table


def _unquoted(name: str) -> str:
    """The name that SQL writes in quotes."""
    return name[1:-1].replace('""', '"') if name[:1] == '"' == name[-1:] and len(name) > 1 else name


def _postgres_tables(conn: Connection, schema: str | None) -> dict[str, str]:
    return {row.name: row.schema for row in conn.execute(_POSTGRES_TABLES, {"schema": schema})}


def _match(name: str, known: Sequence[str], missing: str) -> str:
    if name in known:
        return name
    same_ignoring_case = [other for other in known if other.casefold() == name.casefold()]
    if len(same_ignoring_case) == 1:
        return same_ignoring_case[0]
    if same_ignoring_case:
        raise SyncLogError(f"{missing}, but {_join_names(same_ignoring_case)}; use the exact spelling")
    close = get_close_matches(name.casefold(), [other.casefold() for other in known], n=3, cutoff=0.6)
    suggestions = [other for other in known if other.casefold() in close]
    if suggestions:
        raise SyncLogError(f"{missing}; did you mean {_join_names(suggestions)}?")
    raise SyncLogError(f"{missing}; there is {_join_names(known[:10])}" if known else f"{missing}; there is none")


def _join_names(names: Sequence[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)


def _rowid_name(conn: Connection, table: str, columns: Sequence[str]) -> str | None:
    taken = {column.lower() for column in columns}  # a column may have one of these names
    candidate = next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)
    if candidate is None:
        return None
    try:
        conn.execute(
            select(literal_column(candidate)).select_from(table_named(quoted_name(table, quote=True))).limit(0)
        )
    except OperationalError:  # a table WITHOUT ROWID; any other error occurs again in the read
        return None
    return candidate
