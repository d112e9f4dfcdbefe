"""The rows of a sync log that count (`where`): by column, one of some values, null or not null. Values are bound.

There is no SQL of the user's: columns are those of the catalog, and a value is a value, whatever is written in it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, collate, column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import NullType

from monitor.database.postgres_faults import DatabaseFault
from monitor.database.urls import classify_fault, location_of
from monitor.errors import SyncLogError
from monitor.synclog.catalog import ResolvedTable
from monitor.synclog.connection import Condition, Value

NULL, NOT_NULL = "null", "not null"
_MAX_SHOWN = 60
_INTEGER = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)
_MAX_INTEGER = 1 << 63
"""SQLite's integers have 64 bits."""


def row_filter(resolved: ResolvedTable) -> list[ColumnElement[bool]]:
    """The conditions, in no order; all of them have to hold."""
    return [_condition(resolved, name, wanted) for name, wanted in resolved.where.items()]


def check_filter(conn: Connection, resolved: ResolvedTable, query: Select[Any]) -> None:
    """Asks PostgreSQL whether the values can be values of their columns, such as of an enum or a number.

    Raises SyncLogError, with the column, if one can't.
    """
    for name, wanted in resolved.where.items():
        try:
            conn.execute(query.where(_condition(resolved, name, wanted)).limit(0))
        except DBAPIError as error:
            if classify_fault(error) is not DatabaseFault.OTHER:
                raise
            raise SyncLogError(
                f'sync log {location_of(conn.engine.url)}, table "{resolved.table}": where can\'t compare its column '
                f'"{name}", of the type {resolved.type_names[name]}, with {_shown(wanted)}; correct the value'
            ) from error


def _condition(resolved: ResolvedTable, name: str, wanted: Condition) -> ColumnElement[bool]:
    found: ColumnElement[Any] = column(quoted_name(name, quote=True))
    if wanted == NULL:
        return found.is_(None)
    if wanted == NOT_NULL:
        return found.is_not(None)
    values = wanted if isinstance(wanted, tuple) else (wanted,)
    if resolved.schema is None:
        # as the characters are, whatever collation the column has: it may be the application's own
        exact = collate(found, "BINARY")
        return _is_one_of(exact, (spelling for value in values for spelling in _on_sqlite(value)))
    if resolved.types[name] == "json":
        found = found.op("#>>")(text("'{}'"))
    number = resolved.types[name] == "raw" and resolved.type_names[name] != "bytea"
    return _is_one_of(found, (_on_postgres(value, number=number) for value in values))


def _is_one_of(found: ColumnElement[Any], values: Iterable[object]) -> ColumnElement[bool]:
    # without a type: PostgreSQL reads the text as a value of the column's own
    return found.in_([bindparam(None, value, type_=NullType()) for value in dict.fromkeys(values)])


def _on_sqlite(value: Value) -> Iterator[str | int | float]:
    """The value as text and as number: a column without a declared type, as a view has it, converts neither.

    A whole number that SQLite has no integer for is one as text, in a column of numbers, and by itself.
    """
    if isinstance(value, bool) or (isinstance(value, float) and abs(value) < _MAX_INTEGER and value.is_integer()):
        value = int(value)
    if isinstance(value, str):
        yield value
        if _INTEGER.fullmatch(value) and _is_integer(int(value)):
            yield int(value)
        return
    if isinstance(value, float) or _is_integer(value):
        yield value
    yield str(value)


def _is_integer(value: int) -> bool:
    return -_MAX_INTEGER <= value < _MAX_INTEGER


def _on_postgres(value: Value, *, number: bool) -> str:
    if isinstance(value, bool):
        return str(int(value)) if number else str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _shown(wanted: Condition) -> str:
    values = wanted if isinstance(wanted, tuple) else (wanted,)
    shown = " or ".join(f'"{value}"' if isinstance(value, str) else str(value).lower() for value in values)
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"
