"""`history`: past snapshots."""

from monitor.cli.options import AsJson, ConfigPath, Limit, TargetName
from monitor.cli.session import load, open_app, print_json, print_lines, require_known_target, terminal_width


def history(config: ConfigPath = None, target: TargetName = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the snapshots of past runs, newest first.

    Example: ingestion-monitor history --limit 5
    """
    loaded = load(config)
    from monitor.database.engine import reading
    from monitor.reports.formatting import count_limit
    from monitor.reports.runs import history_json, history_text
    from monitor.runs import store as run_store

    with open_app(loaded) as app:
        require_known_target(app, target)
        with reading(app.engine) as conn:
            rows = run_store.history(conn, target=target, limit=limit)
            total = run_store.count_snapshots(conn, target=target, at_most=count_limit(limit))
    if as_json:
        print_json(history_json(rows, total=total))
    else:
        print_lines(history_text(rows, total=total, width=terminal_width()))
