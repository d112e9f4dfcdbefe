"""Tables that a tool wrote, as SQL that loads without the tool.

`blank` has what to save instead of a column's values, for what is large, or personal, or the tool's own text.
"""

import contextlib
import sqlite3

import psycopg


def dump_sqlite(path, *, tables, blank):
    """CREATE TABLE without keys and defaults, and one INSERT per row; SQLite itself quotes values as their types."""
    with contextlib.closing(sqlite3.connect(path)) as conn:
        lines = []
        for table in tables:
            columns = conn.execute("SELECT name, type FROM pragma_table_info(?) ORDER BY cid", (table,)).fetchall()
            body = ", ".join(f'"{column}" {kind}'.rstrip() for column, kind in columns)
            lines.append(f'CREATE TABLE "{table}" ({body});')
            quoted = ", ".join(_blank(blank, each) or f'quote("{each}")' for each, _ in columns)
            rows = conn.execute(f'SELECT {quoted} FROM "{table}" ORDER BY rowid').fetchall()
            lines += [f'INSERT INTO "{table}" VALUES ({", ".join(row)});' for row in rows]
    return "\n".join(lines) + "\n"


def dump_postgres(url, *, tables, blank):
    """CREATE TABLE without keys and defaults, the enums that it needs, and one INSERT per row."""
    with psycopg.connect(url) as conn:
        conn.execute("SELECT set_config('timezone', 'UTC', false)")
        lines = []
        for table in tables:
            schema, _, name = table.rpartition(".")
            schema = schema or "public"
            columns = conn.execute(_COLUMNS, {"schema": schema, "table": name}).fetchall()
            enums = {kind: labels for _, kind, labels in columns if labels}
            if schema != "public":
                lines.append(f'CREATE SCHEMA IF NOT EXISTS "{schema}";')
            lines += [f"CREATE TYPE {kind} AS ENUM ({labels});" for kind, labels in enums.items()]
            whole = conn.execute("SELECT format('%%I.%%I', %s::text, %s::text)", (schema, name)).fetchone()[0]
            body = ", ".join(f'"{column}" {kind}' for column, kind, _ in columns)
            lines.append(f"CREATE TABLE {whole} ({body});")
            values = ", ".join(_blank(blank, each) or f'quote_nullable("{each}"::text)' for each, *_ in columns)
            rows = conn.execute(f"SELECT {values} FROM {whole} ORDER BY ctid").fetchall()
            lines += [f"INSERT INTO {whole} VALUES ({', '.join(row)});" for row in rows]
    return "\n".join(lines) + "\n"


_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod),
      (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
       FROM pg_enum e WHERE e.enumtypid = a.atttypid)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
"""


def _blank(blank, column):
    """SQL whose value is the blank as a literal; None for a column that is saved as it is."""
    return f"'''{blank[column]}'''" if column in blank else None
