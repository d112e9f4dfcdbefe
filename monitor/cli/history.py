"""`history`: past snapshots."""

from pathlib import Path

from monitor.cli.session import load, open_app, print_json, print_lines, require_known_target
from monitor.database.engine import reading
from monitor.reports.runs import history_json, history_text
from monitor.runs import store as run_store


def history(path: Path | None, target: str | None, limit: int, as_json: bool) -> None:
    """Prints the newest snapshots.

    Raises:
        ConfigError: there is no such target.
        StoreError: the database can't be used.
    """
    with open_app(load(path)) as app:
        require_known_target(app, target)
        with reading(app.engine) as conn:
            rows = run_store.history(conn, target=target, limit=limit)
    if as_json:
        print_json(history_json(rows))
    else:
        print_lines(history_text(rows))
