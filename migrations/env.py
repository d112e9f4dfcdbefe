"""Connects Alembic to the database: with the connection that the program passes, or, on the command line, the one that
`-x url=…` or MONITOR_DATABASE names. It configures no logging and prints nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.operations.ops import (
    AddColumnOp,
    CreateIndexOp,
    DropColumnOp,
    DropIndexOp,
    MigrationScript,
    ModifyTableOps,
    OpContainer,
)
from alembic.util import CommandError
from sqlalchemy import Connection

from monitor.database import history_view
from monitor.database.migrate import migration_transaction
from monitor.database.sync_tables import metadata
from monitor.database.tables import UtcDateTime, complete_for_postgresql
from monitor.database.version_table import VERSION_TABLE, take_over
from monitor.errors import StoreError


def _write(
    _context: MigrationContext, _revision: str | Iterable[str | None] | Iterable[str], scripts: list[MigrationScript]
) -> None:
    """Numbers a new revision after the last one, so that the files sort in the order in which they run; see below."""
    versions = Path(__file__).parent / "versions"
    last = max((path.name[:4] for path in versions.glob("[0-9]*.py")), default="0000")
    scripts[0].rev_id = f"{int(last) + 1:04d}"
    for ops in (*scripts[0].upgrade_ops_list, *scripts[0].downgrade_ops_list):
        _alter_in_place(ops)


def _alter_in_place(found: OpContainer) -> None:
    """Adds and drops columns by plain statements, also on SQLite. To drop one, a batch would copy the whole table and
    lose its CHECK constraints and AUTOINCREMENT, which Alembic does not know of.
    """
    in_place = (AddColumnOp, DropColumnOp, CreateIndexOp, DropIndexOp)
    found.ops = [
        op
        for each in found.ops
        for op in (
            each.ops
            if isinstance(each, ModifyTableOps) and all(isinstance(op, in_place) for op in each.ops)
            else [each]
        )
    ]


def _render(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:  # noqa: ANN401  # Alembic hands over any schema item
    """Writes our own types as database types, because a migration must work after the code has changed."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def _run(connection: Connection) -> None:
    revisions = frozenset(str(each.revision) for each in context.script.walk_revisions())
    take_over(connection, revisions)
    complete_for_postgresql()
    context.configure(
        connection=connection,
        version_table=VERSION_TABLE,
        target_metadata=metadata,
        process_revision_directives=_write,
        render_item=_render,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction(), history_view.rebuilt(connection):
        context.run_migrations()


def _run_from_the_command_line() -> None:
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get("MONITOR_DATABASE")
    if not url:
        raise CommandError("name the database: set MONITOR_DATABASE, or pass -x url=sqlite:///monitor.db")
    try:
        with migration_transaction(url) as connection:
            _run(connection)
    except StoreError as error:
        raise CommandError(str(error)) from error


_handed: Connection | None = context.config.attributes.get("connection")
if _handed is not None:
    _run(_handed)
else:
    _run_from_the_command_line()
