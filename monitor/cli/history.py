"""`history`: past snapshots."""

from monitor.cli.options import AsJson, ConfigPath, Limit, TargetName
from monitor.cli.session import load, open_app, print_json, print_lines, require_known_target, terminal_width


def history(config: ConfigPath = None, target: TargetName = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the snapshots of past runs, newest first.

    Example: ingestion-monitor history --limit 5
    """
    loaded = load(config)
    from monitor.database.engine import reading
    from monitor.reports.history import history_json, history_text, history_view

    with open_app(loaded) as app:
        require_known_target(app, target)
        with reading(app.engine) as conn:
            view = history_view(conn, target=target, limit=limit)
    if as_json:
        print_json(history_json(view))
    else:
        print_lines(history_text(view.rows, total=view.total, width=terminal_width()))
