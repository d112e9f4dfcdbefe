"""Executes one statement for many rows, and fills staging tables.

Statements are compiled once per dialect and bound without SQLAlchemy, whose cost per row is higher than SQLite's.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    Connection,
    Engine,
    Insert,
    Select,
    String,
    Table,
    TableValuedAlias,
    Text,
    Update,
    bindparam,
    column,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from monitor.database.engine import begin_immediate
from monitor.database.tables import UtcDateTime, sqlite_timestamp, to_utc

TimestampEncoder = Callable[[datetime | None], object]

_Row = tuple[object, ...]
_RowShaper = Callable[[Any], object]


def timestamp_encoder(conn: Connection) -> TimestampEncoder:
    """A function that converts an aware datetime as `UtcDateTime` does; it raises ValueError for a naive one."""
    if conn.dialect.name != "sqlite":
        return to_utc
    last: datetime | None = None
    text: str | None = None

    def encode(value: datetime | None) -> object:
        # up to four columns of a row have the same time
        nonlocal last, text
        if value is not last:
            last, text = value, sqlite_timestamp(value)
        return text

    return encode


def id_set(database: Connection | Engine, ids: Iterable[str]) -> object:
    """Ids as the one parameter of `ids_of`, sorted, so that rows are written in the order of the key."""
    wanted = sorted(ids)
    return json.dumps(wanted) if database.dialect.name == "sqlite" else wanted


class _IdsOf(FunctionElement[str]):
    """The ids of one parameter as rows: `json_each` on SQLite, `unnest` on PostgreSQL."""

    name = "ids_of"
    inherit_cache = True


@compiles(_IdsOf, "sqlite")
def _from_json(element: _IdsOf, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_IdsOf, "postgresql")
def _from_array(element: _IdsOf, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    return f"unnest({compiler.process(element.clauses, **options)})"


def ids_of(name: str) -> Select[tuple[str]]:
    """A query for the ids that the parameter `name` holds (`id_set`), with any number of them one and the same text."""
    # PostgreSQL names the column of a function's rows like the function, here by its alias
    found = _IdsOf(bindparam(name, type_=ARRAY(Text))).table_valued(column("value", String), name="value")
    return select(found.c.value)


class _RowsOf(FunctionElement[Any]):
    """Rows of one parameter: a JSON array on SQLite, an array per column on PostgreSQL."""

    name = "rows_of"
    inherit_cache = True


@compiles(_RowsOf, "sqlite")
def _rows_from_json(element: _RowsOf, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    rows, *arrays = element.clauses
    columns = ", ".join(f"json_extract(value, '$[{n}]') AS {_name_of(rows, array)}" for n, array in enumerate(arrays))
    return f"(SELECT {columns} FROM json_each({compiler.process(rows, **options)}))"  # noqa: S608  # our own names


@compiles(_RowsOf, "postgresql")
def _rows_from_arrays(element: _RowsOf, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # SQLAlchemy's signature
    rows, *arrays = element.clauses
    values = ", ".join(compiler.process(array, **options) for array in arrays)
    columns = ", ".join(_name_of(rows, array) for array in arrays)
    return f"(SELECT * FROM unnest({values}) AS found ({columns}))"  # noqa: S608  # our own names


def _name_of(rows: Any, array: Any) -> str:  # noqa: ANN401  # bind parameters
    return str(array.key).removeprefix(f"{rows.key}_")


class RowSet:
    """Rows as parameters of a statement, whose text and plan are the same with any number of them.

    A question about several targets joins their rows: one statement, in which each is looked up in an index.
    """

    def __init__(self, name: str, **types: TypeEngine[Any]) -> None:
        self._name, self._types = name, types
        self._times = [n for n, each in enumerate(types.values()) if isinstance(each, UtcDateTime)]
        parameters = [bindparam(f"{name}_{each}", type_=ARRAY(kind)) for each, kind in types.items()]
        function = _RowsOf(bindparam(name, type_=Text()), *parameters)
        found = function.table_valued(*(column(each, kind) for each, kind in types.items()), name=name)
        self.table: TableValuedAlias = found
        """What the statement selects from."""
        self.c = found.c

    def of(self, conn: Connection, rows: Sequence[_Row]) -> dict[str, object]:
        """The parameters; values in the order of the columns."""
        if conn.dialect.name == "sqlite":
            return {self._name: json.dumps([self._with_text(row) for row in rows])}
        columns = zip(*rows, strict=True) if rows else [()] * len(self._types)
        return {f"{self._name}_{each}": list(found) for each, found in zip(self._types, columns, strict=True)}

    def _with_text(self, row: _Row) -> list[object]:
        found = list(row)
        for number in self._times:
            at = found[number]
            found[number] = _timestamp(at) if isinstance(at, datetime) else None
        return found


_timestamp = lru_cache(maxsize=4_096)(sqlite_timestamp)
"""Questions about several targets have the same times."""


class Bulk:
    """An INSERT or UPDATE with one `bindparam` per name; `names` (at least two) is the order of a row's values."""

    def __init__(self, statement: Insert | Update, names: Sequence[str]) -> None:
        self._statement, self._names = statement, tuple(names)
        self._compiled: dict[str, tuple[str, _RowShaper]] = {}

    def execute(self, conn: Connection, rows: Iterable[_Row]) -> None:
        """Executes it once per row; times must be encoded by `timestamp_encoder`."""
        sql, shape_row = self._compiled.get(conn.dialect.name) or self._compile(conn)
        conn.exec_driver_sql(sql, [shape_row(row) for row in rows])

    def _compile(self, conn: Connection) -> tuple[str, _RowShaper]:
        compiled = self._statement.compile(dialect=conn.dialect)
        shape_row: _RowShaper = self._as_mapping
        if compiled.positiontup is not None:
            shape_row = itemgetter(*(self._names.index(name) for name in compiled.positiontup))
        self._compiled[conn.dialect.name] = str(compiled), shape_row
        return self._compiled[conn.dialect.name]

    def _as_mapping(self, row: _Row) -> object:
        return dict(zip(self._names, row, strict=True))


def create_staging_table(conn: Connection, staged: Table) -> None:
    """Creates the empty temporary table; on SQLite, filling it takes no lock on our tables."""
    if conn.dialect.name != "sqlite":
        staged.dialect_options["postgresql"]["on_commit"] = "DROP"  # see `complete_for_postgresql`
        staged.create(conn, checkfirst=False)
        return
    creation, removal = _sqlite_ddl(staged)
    # left by a failure on this pooled connection; with `temp.` nothing reads our schema, which would keep the WAL long
    conn.exec_driver_sql(removal)
    conn.exec_driver_sql(creation)


def drop_staging_table(conn: Connection, staged: Table) -> None:
    """Drops it at the end of the work."""
    if conn.dialect.name == "sqlite":
        conn.exec_driver_sql(_sqlite_ddl(staged)[1])
    else:
        staged.drop(conn, checkfirst=False)


@cache
def _sqlite_ddl(staged: Table) -> tuple[str, str]:
    """The statements that create and drop it: SQLAlchemy takes ten times as long as SQLite to put them together."""
    return str(CreateTable(staged).compile(dialect=sqlite.dialect())), f"DROP TABLE IF EXISTS temp.{staged.name}"


def begin_merge(conn: Connection, staged: Table) -> None:
    """Begins to write our tables from the staging table.

    On SQLite the write lock is taken only now, in a new transaction. PostgreSQL continues the same transaction: behind
    PgBouncer the next one might run in another session.
    """
    if conn.dialect.name == "sqlite":
        conn.commit()
        begin_immediate(conn)
    else:
        conn.execute(text(f"ANALYZE {staged.name}"))
