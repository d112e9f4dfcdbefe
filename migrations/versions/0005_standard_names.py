"""Standard names for columns and stored values, and the run status `crashed` for a run whose process died.

Revision ID: 0005
Revises: 0004
"""

import json
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("runs", "slot", "run_key"),
    ("runs", "restraint", "throttle_factor"),
    ("evidence", "explained_by", "inhibited_by"),
    ("incidents", "untold_count", "unnotified_count"),
    ("channels", "parked_at", "suspended_at"),
    ("channels", "refreshed_at", "resent_at"),
    ("reports", "made_at", "generated_at"),
)
_VALUES = (
    ("runs", "status", "unread", "failed"),
    ("evidence", "cause", "coverage", "too_many_unknown"),
    ("incidents", "cause", "coverage", "too_many_unknown"),
    ("notifications", "cause", "coverage", "too_many_unknown"),
    ("incident_events", "kind", "told", "notified"),
    ("item_events", "kind", "heeded", "unignored"),
)
_RULE_KEYS = {"span_s": "for_s", "remind_every_s": "repeat_interval_s"}
_CAUSES = {"coverage": "too_many_unknown"}
_ROWS = 500


def upgrade() -> None:
    """One revision up."""
    for table, old, new in _COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    _rename_index("runs", "ix_runs_target_slot", "ix_runs_target_run_key", ["target", "run_key"])
    for table, column, old, new in _VALUES:
        _replace(table, column, old, new)
    op.execute("UPDATE runs SET status = 'crashed', abort_reason = NULL "
               "WHERE status = 'aborted' AND abort_reason = 'interrupted'")  # fmt: skip
    _convert(_RULE_KEYS, _CAUSES)


def downgrade() -> None:
    """One revision down: nothing is lost."""
    _convert(_inverse(_RULE_KEYS), _inverse(_CAUSES))
    op.execute("UPDATE runs SET status = 'aborted', abort_reason = 'interrupted' WHERE status = 'crashed'")
    for table, column, old, new in _VALUES:
        _replace(table, column, new, old)
    _rename_index("runs", "ix_runs_target_run_key", "ix_runs_target_slot", ["target", "run_key"])
    for table, old, new in _COLUMNS:
        op.alter_column(table, new, new_column_name=old)


def _rename_index(table: str, old: str, new: str, columns: list[str]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")
        return
    op.drop_index(old, table)
    op.create_index(new, table, columns)


def _replace(table: str, column: str, old: str, new: str) -> None:
    changed = sa.column(column, sa.String())
    op.execute(sa.update(sa.table(table, changed)).where(changed == old).values({column: new}))


def _inverse(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}


def _convert(rule_keys: Mapping[str, str], causes: Mapping[str, str]) -> None:
    """Changes names inside JSON."""

    def rule(data: dict[str, Any]) -> dict[str, Any]:
        numbers = data.get("rule")
        if not isinstance(numbers, dict):
            return data
        return {**data, "rule": {rule_keys.get(key, key): value for key, value in numbers.items()}}

    def message(data: dict[str, Any]) -> dict[str, Any]:
        parts = [message(part) for part in data.get("parts") or [] if isinstance(part, dict)]
        named = {"cause": causes.get(data["cause"], data["cause"])} if "cause" in data else {}
        return {**data, **named, **({"parts": parts} if parts else {})}

    def matchers(data: dict[str, Any]) -> dict[str, Any]:
        patterns = data.get("cause")
        return {**data, "cause": _matching(patterns, causes)} if isinstance(patterns, list) else data

    _each("incident_events", "data", rule_keys, rule)
    _each("notifications", "message", causes, message)
    _each("silences", "matchers", {"cause": ""}, matchers)


def _matching(patterns: list[str], causes: Mapping[str, str]) -> list[str]:
    """Glob patterns that match the same values under the new names."""
    renamed = [causes.get(pattern, pattern) for pattern in patterns]
    for old, new in causes.items():
        if _any(patterns, old) and not _any(renamed, new):
            renamed.append(new)
    return renamed


def _any(patterns: list[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _each(
    table: str, column: str, names: Mapping[str, str], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Changes a JSON column in the rows that contain one of these names."""
    key, content = sa.column("id", sa.BigInteger()), sa.column(column, sa.JSON())
    rows = sa.table(table, key, content)
    conn = op.get_bind()
    for row_id, value in _holding(conn, rows, column, names):
        changed = change(value) if isinstance(value, dict) else value
        if changed != value:
            conn.execute(sa.update(rows).where(key == row_id).values({column: changed}))


def _holding(
    conn: sa.Connection, rows: sa.TableClause, column: str, names: Mapping[str, str]
) -> Iterator[tuple[int, Any]]:
    """Keys and values of the rows whose JSON contains one of these names, some hundred at a time."""
    key, content = rows.c.id, rows.c[column]
    # not decoded by the database, which may refuse values that it once accepted
    written = sa.cast(content, sa.Text())
    holding = sa.or_(*(written.contains(name, autoescape=True) for name in names))
    query = sa.select(key, written).where(holding).order_by(key).limit(_ROWS)
    last = 0
    while found := conn.execute(query.where(key > last)).all():
        for row_id, value in found:
            yield row_id, json.loads(value)
        last = found[-1][0]
