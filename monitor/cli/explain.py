"""`incidents explain`: gathers an incident's story and prints it."""

from pathlib import Path

from sqlalchemy import Connection

from monitor.cli.session import existing, load, opened, print_json, print_lines
from monitor.incidents.replay import LEAD, Past, Step
from monitor.incidents.rulebook import Rule, with_numbers
from monitor.model import Incident
from monitor.report.explain import Account, explain_json, explain_text
from monitor.store import incidents, retelling, silences
from monitor.store.engine import reading
from monitor.wiring import App, rules_in_force, utcnow

__all__ = ["explain"]


def explain(path: Path | None, incident_id: int, *, as_json: bool) -> None:
    """Prints why an incident opened and ended, and why people were told or not.

    Raises:
        ConfigError: there is none with that number.
        StoreError: the database can't be used.
    """
    with opened(load(path)) as app, reading(app.engine) as conn:
        incident = existing(incidents.find(conn, incident_id), incident_id)
        account = _account(conn, app, incident)
    if as_json:
        print_json(explain_json(account))
    else:
        print_lines(explain_text(account))


def _account(conn: Connection, app: App, incident: Incident) -> Account:
    rule, now = _rule(app, incident), utcnow()
    steps = [
        Step(at=each.at, kind=each.kind, reason=each.reason, run_id=each.run_id, data=each.data)
        for each in incidents.events(conn, incident.id)
    ]
    stored = next((step.data["rule"] for step in reversed(steps) if "rule" in step.data), None)
    then = with_numbers(rule, stored)
    past = Past(
        incident=incident,
        before=retelling.predecessor(conn, incident),
        runs=retelling.runs_around(
            conn, incident, window=then.window, at_least=max(then.of, then.resolve_after) + LEAD
        ),
        steps=steps,
        rule=rule,
        rule_then=then,
    )
    sent = retelling.sent(conn, incident.id)
    return Account(past=past, sent=sent, silences=silences.in_force(conn, now=now), now=now)


def _rule(app: App, incident: Incident) -> Rule:
    return rules_in_force(app.config.rules, target=incident.target)[incident.cause]
