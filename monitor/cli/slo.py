"""`slo`: service level objectives, their error budgets, and how fast they burn."""

from monitor.cli.options import AsJson, ConfigPath, TargetName
from monitor.cli.session import load, open_app, print_json, print_lines, select_targets


def slo(config: ConfigPath = None, target: TargetName = None, as_json: AsJson = False) -> None:
    """Show each objective: its error budget, and how fast it burns.

    It reads the database and asks no API: the figures are as of the last run that could ask. Exit code 0, however fast
    a budget burns: `check --fail-on incident` fails on an open incident.

    Example: ingestion-monitor slo --target gloo-prod
    """
    loaded = load(config)
    from monitor.config.slos import objectives_of
    from monitor.database.engine import reading
    from monitor.reports.slos import read_all_slos, slos_json, slos_text

    targets = select_targets(loaded, [target] if target is not None else [])
    with open_app(loaded) as app, reading(app.engine) as conn:
        promised = {each.name: objectives_of(loaded.slos, each.name) for each in targets}
        rows = [row for found in read_all_slos(conn, objectives=promised).values() for row in found]
    if as_json:
        print_json(slos_json(rows))
    else:
        print_lines(slos_text(rows, configured=bool(loaded.slos)))
