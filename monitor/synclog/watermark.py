"""Which rows of a log may have changed since it was last read, by the column with the time of their last change.

A row is *settled* if its time is older than the last read, and than the newest time then, by more than `OVERLAP`, and
is written in a form whose order in the database is that of time. All other rows may have changed: those with a recent
time, without a time, and with a time in any other form.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, TypeGuard

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    TextClause,
    and_,
    bindparam,
    cast,
    collate,
    column,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    text,
    true,
)
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import NullType

from monitor.database.urls import location_of
from monitor.errors import SyncLogError
from monitor.synclog.catalog import ResolvedTable
from monitor.synclog.pages import LogStart, Newest, Watermark
from monitor.synclog.timestamps import AUTO, TimeReader, day_sign, number_ranges, time_reader

OVERLAP = timedelta(hours=36)
"""A day for transactions that commit late and clocks that differ, and half a day for times of an unknown zone."""
_BEHIND_UTC = timedelta(hours=12)
"""The zone that is furthest behind."""
_MAX_LENGTH = 100
"""Of a newest value that is kept: a longer one is no time."""

_NATIVE = re.compile(r"date|timestamp(?:\(\d\))? (?:with|without) time zone")
_NUMBER = re.compile(r"smallint|integer|bigint|real|double precision|numeric(?:\(.*\))?")
_WORDS = re.compile(r"text|citext|name|character(?: varying)?(?:\(\d+\))?")
# VACUUM, which may number rows anew, changes it, too
_FILE = text("(SELECT schema_version FROM pragma_schema_version)")
# a restart, a failover and another standby are another server
_SERVER = text("""
    concat_ws(' ', pg_postmaster_start_time(), pg_is_in_recovery(), inet_server_addr(), inet_server_port(),
      (SELECT oid FROM pg_database WHERE datname = current_database()),
      CAST(to_regclass(format('%I.%I', CAST(:schema AS text), CAST(:table AS text))) AS oid))
""")


class _Form(msgspec.Struct, frozen=True, kw_only=True):
    """A form of times whose order in the database is that of time."""

    is_written: ColumnElement[bool]
    value: ColumnElement[Any]
    limit: Callable[[datetime], str | int]
    """What is less than this is before the instant, whatever the zone of times without one."""
    holds: Callable[[Newest], bool]
    """Whether a value of the column is written so."""
    in_sql: Callable[[Any], ColumnElement[Any]]
    """A limit or a value as the value is compared with it."""

    def until(self, compared: ColumnElement[bool]) -> ColumnElement[bool]:
        """Whether a value is written so and compares so: true or false, also for null."""
        return and_(self.value.is_not(None), self.is_written, compared)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a log's `updated_at_column` can say of it."""

    since: Watermark | None
    """As of the last read; None if nothing is known."""
    seed: bytes
    place: TextClause
    """The file or server, as SQL."""
    newest: ColumnElement[Any]
    """The newest value, as the database orders them."""
    forms: Sequence[_Form]
    read_time: TimeReader

    @property
    def facts(self) -> tuple[ColumnElement[Any] | TextClause, ...]:
        """What has to be asked of the rows, as columns: their number, the newest value, and the place."""
        return func.count(), self.newest, self.place

    def start(self, facts: Sequence[Any], *, file: object = None) -> LogStart:
        """What comes before the pages of a log with these facts; with a doubt, all of them have to be compared."""
        rows, newest, found = facts
        known = newest if _can_be_kept(newest) else None
        place = " ".join(map(str, (self.seed.hex()[:32], file, found)))
        doubt = self._doubt(known, place)
        return LogStart(newest=known, place=place, rows=None if doubt else rows, doubt=doubt)

    def may_have_changed(self, since: Watermark) -> list[ColumnElement[bool]]:
        """Conditions, each of which all rows meet that may have changed since then; first the one that fewer meet."""
        return [each for each in (self._is_newer(since), self._is_recent(since)) if each is not None]

    def _is_recent(self, since: Watermark) -> ColumnElement[bool]:
        """Which rows have a time that is not long before the last read and the newest time then."""
        before = min(since.read_at, self._instant(since.newest) or since.read_at) - OVERLAP
        return _no_one_of([form.until(form.value < form.in_sql(form.limit(before))) for form in self.forms])

    def _is_newer(self, since: Watermark) -> ColumnElement[bool] | None:
        """Which rows have another time than those until the newest then; None if that was not long before the read.

        A load of very many rows gives all of them one time. Once it is long past, they are settled.
        """
        newest, at = since.newest, self._instant(since.newest)
        if at is None or at >= since.read_at - OVERLAP:
            return None
        return _no_one_of([form.until(form.value <= form.in_sql(newest)) for form in self.forms if form.holds(newest)])

    def _doubt(self, newest: Newest, place: str) -> str | None:
        """Why the column can't say what changed."""
        if self.since is None:
            return "no earlier read of its times is known"
        if self.since.place != place:
            return "the server, the file, the table or a setting is another one"
        before, now = self._instant(self.since.newest), self._instant(newest)
        if before is not None and (now is None or now < before):
            return "the newest time went back"
        return None

    def _instant(self, value: Newest) -> datetime | None:
        return None if value is None else self.read_time(value)


def changes_of(
    conn: Connection, resolved: ResolvedTable, since: Watermark | None, *, time_format: str, zone: tzinfo, seed: bytes
) -> Changes | None:
    """What a log can say of its changes; None without an `updated_at_column`. `seed` has all settings that decide.

    Raises SyncLogError if the table or the column can't be used so.
    """
    check_column(conn, resolved)
    if resolved.updated_at_column is None:
        return None
    if _NATIVE.fullmatch(resolved.type_names[resolved.updated_at_column]) and resolved.schema is not None:
        time_format = AUTO
    found: ColumnElement[Any] = column(quoted_name(resolved.updated_at_column, quote=True))
    newest: ColumnElement[Any]
    if resolved.schema is None:
        newest, forms, place = func.max(collate(found, "BINARY")), _sqlite_forms(found, time_format), _FILE
    else:
        value, forms = _postgres_forms(found, resolved.type_names[resolved.updated_at_column], time_format)
        newest = cast(func.max(value), Text())
        place = _SERVER.bindparams(schema=resolved.schema, table=resolved.table)
    read_time = time_reader(time_format, zone)
    return Changes(since=since, seed=seed, place=place, newest=newest, forms=forms, read_time=read_time)


def check_column(conn: Connection, resolved: ResolvedTable) -> None:
    """Raises SyncLogError if the table's rows can't be found by an `updated_at_column`."""
    name = resolved.updated_at_column
    if name is None:
        return
    where = f'sync log {location_of(conn.engine.url)}, table "{resolved.table}"'
    if resolved.schema is None and resolved.rowid is None:
        raise SyncLogError(
            f"{where}: updated_at_column finds rows by their rowid, and a view or a table WITHOUT ROWID has none; "
            "remove it, or name a table and choose its rows with where"
        )
    kind = resolved.type_names[name]
    if resolved.schema is not None and not any(each.fullmatch(kind) for each in (_NATIVE, _NUMBER, _WORDS)):
        raise SyncLogError(
            f'{where}: its column "{name}" is of the type {kind}, whose values are no times; name in updated_at_column '
            "the column with the time of the last change"
        )


def _can_be_kept(value: object) -> TypeGuard[str | int | float]:
    if isinstance(value, str):
        return value.isprintable() and len(value) <= _MAX_LENGTH
    return isinstance(value, int | float) and math.isfinite(value)


def _no_one_of(settled: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    # none of them is ever null, and as a plain condition it ends at the first that holds
    return not_(or_(false(), *settled))


def _sqlite_forms(found: ColumnElement[Any], time_format: str) -> list[_Form]:
    exact, is_number = collate(found, "BINARY"), func.typeof(found).in_(("integer", "real"))
    forms = [
        _Form(
            is_written=and_(is_number, found >= each.lowest, true() if each.end is None else found < each.end),
            value=found,
            limit=each.count,
            holds=each.holds,
            in_sql=_bound,
        )
        for each in number_ranges(time_format)
    ]
    sign = day_sign(time_format)
    if sign is None:
        return forms
    glob = sign.join(("[0-9]" * 4, "[0-9]" * 2, "[0-9]" * 2))
    # numbers are before each text, and blobs behind the time that is compared: `typeof` takes four times as long
    is_written = and_(exact >= literal(""), exact.bool_op("GLOB")(f"{glob}*"))
    return [_days(is_written, exact, sign), *forms]


def _postgres_forms(found: ColumnElement[Any], kind: str, time_format: str) -> tuple[ColumnElement[Any], list[_Form]]:
    if _NATIVE.fullmatch(kind):
        margin = timedelta(0) if kind.endswith("with time zone") else _BEHIND_UTC
        native = _Form(
            is_written=true(),
            value=found,
            limit=lambda before: (before - margin).isoformat(),
            holds=lambda _: True,
            in_sql=_untyped,
        )
        return found, [native]
    if _NUMBER.fullmatch(kind):
        return found, [
            _Form(
                is_written=and_(
                    found >= _number(each.lowest), true() if each.end is None else found < _number(each.end)
                ),
                value=found,
                limit=each.count,
                holds=each.holds,
                in_sql=_number,
            )
            for each in number_ranges(time_format)
        ]
    exact, sign = cast(found, Text()).collate("C"), day_sign(time_format)
    if sign is None:
        return exact, []
    pattern = sign.replace(".", "[.]").join(("^[0-9]{4}", "[0-9]{2}", "[0-9]{2}"))
    return exact, [_days(exact.bool_op("~")(pattern), exact, sign)]


def _days(is_written: ColumnElement[bool], exact: ColumnElement[Any], sign: str) -> _Form:
    """Text that begins with year, month and day, whatever follows: a clock, an offset, or none."""
    pattern = re.compile(re.escape(sign).join((r"\d{4}", r"\d\d", r"\d\d")), re.ASCII)
    return _Form(
        is_written=is_written,
        value=exact,
        limit=lambda before: (before - _BEHIND_UTC).strftime(sign.join(("%Y", "%m", "%d"))),
        holds=lambda value: isinstance(value, str) and pattern.match(value) is not None,
        in_sql=_bound,
    )


def _bound(value: object) -> ColumnElement[Any]:
    return bindparam(None, value)


def _untyped(value: object) -> ColumnElement[Any]:
    # PostgreSQL reads the text as a value of the column's own type
    return bindparam(None, value, type_=NullType())


def _number(value: object) -> ColumnElement[Any]:
    # without a parameter's type, which could be too small
    return literal_column(format(Decimal(str(value)), "f"))
