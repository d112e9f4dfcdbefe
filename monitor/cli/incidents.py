"""`incidents …`: lists and shows them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection

from monitor.app import App, rules_for_target, utcnow
from monitor.cli.asked import comment_of, name_of
from monitor.cli.session import existing, known_target, load, opened, print_json, print_lines
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError
from monitor.incidents import acknowledge as handling
from monitor.incidents import explain as retelling
from monitor.incidents import members
from monitor.incidents import silence_store as silences
from monitor.incidents import store as incidents
from monitor.incidents.decide import REOPEN_WITHIN, OperatorAction
from monitor.incidents.explain import LEAD_RUNS, IncidentHistory, TimelineEvent
from monitor.incidents.rulebook import Rule, with_parameters
from monitor.incidents.silences import describe_acknowledgement
from monitor.model import ITEM_CAUSES, Incident
from monitor.reports.explain import Account, explain_json, explain_text
from monitor.reports.formatting import moment, wrapped
from monitor.reports.incidents import incident_json, incident_text, incidents_text


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
    events = [
        TimelineEvent(at=each.at, kind=each.kind, reason=each.reason, run_id=each.run_id, data=each.data)
        for each in incidents.events(conn, incident.id)
    ]
    stored = next((event.data["rule"] for event in reversed(events) if "rule" in event.data), None)
    then = with_parameters(rule, stored)
    history = IncidentHistory(
        incident=incident,
        previous=retelling.previous_incident(conn, incident),
        runs=retelling.runs_around(
            conn, incident, window=then.window, at_least=max(then.of, then.resolve_after) + LEAD_RUNS
        ),
        events=events,
        rule=rule,
        rule_at_opening=then,
    )
    sent_messages = retelling.sent_messages(conn, incident.id)
    return Account(history=history, sent_messages=sent_messages, silences=silences.active(conn, now=now), now=now)


def _rule(app: App, incident: Incident) -> Rule:
    return rules_for_target(app.config.rules, target=incident.target)[incident.cause]


def ack(path: Path | None, incident_ids: Sequence[int], by: str | None, comment: str | None) -> None:
    """Acknowledges incidents; of one that is acknowledged it says who has it.

    Raises:
        ConfigError: there is none with one of the numbers, or it is over; the others were done.
        StoreError: the database can't be used.
    """
    operator_action = OperatorAction(by=name_of("--by", by), comment=comment_of(comment))
    _each(path, incident_ids, lambda conn, number: _ack(conn, number, operator_action))


def resolve(path: Path | None, incident_ids: Sequence[int], by: str | None, comment: str | None) -> None:
    """Resolves incidents by hand, and says what will happen if their evidence goes on.

    Raises:
        ConfigError: there is none with one of the numbers, or it is over; the others were done.
        StoreError: the database can't be used.
    """
    operator_action = OperatorAction(by=name_of("--by", by), comment=comment_of(comment))
    _each(path, incident_ids, lambda conn, number: _resolve(conn, number, operator_action))


def _each(path: Path | None, incident_ids: Sequence[int], act: Callable[[Connection, int], list[str]]) -> None:
    """Does it to one after the other, and says of each what came of it, once that is stored."""
    problems: list[str] = []
    with opened(load(path)) as app:
        for number in dict.fromkeys(incident_ids):
            try:
                with writing(app.engine) as conn:
                    said = act(conn, number)
            except ConfigError as error:
                problems += error.problems
                continue
            for sentence in said:
                _say(sentence)
    if problems:
        raise ConfigError(problems)


def _ack(conn: Connection, incident_id: int, operator_action: OperatorAction) -> list[str]:
    handled = existing(
        handling.acknowledge(conn, incident_id, operator_action=operator_action, now=utcnow()), incident_id
    )
    incident = handled.incident
    if handled.changed:
        return [
            f"Incident {incident.id} is acknowledged by {operator_action.by}: {_told(incident)}.",
            "There are no reminders any more; new documents are told, and its end.",
        ]
    if said := describe_acknowledgement(incident):
        return [f"Incident {incident.id} was {said}. Nothing was changed."]
    raise _over(incident, "there is nothing to acknowledge")


def _resolve(conn: Connection, incident_id: int, operator_action: OperatorAction) -> list[str]:
    handled = existing(handling.resolve(conn, incident_id, operator_action=operator_action, now=utcnow()), incident_id)
    incident = handled.incident
    if not handled.changed:
        raise _over(incident, "there is nothing to resolve")
    minutes = int(REOPEN_WITHIN.total_seconds() // 60)
    said = [
        f"Incident {incident.id} is resolved by {operator_action.by}: {_told(incident)}.",
        f"Evidence that goes on reopens it within {minutes} minutes, and opens a new incident after that.",
    ]
    if incident.cause in ITEM_CAUSES:
        said.append("For documents that are as they should be: `ingestion-monitor items ignore ID --reason …`.")
    return said


def _over(incident: Incident, so: str) -> ConfigError:
    return ConfigError([f"incident {incident.id} is resolved, since {moment(incident.resolved_at)} UTC: {so}"])


def _told(incident: Incident) -> str:
    """Who hears of it with the next delivery."""
    return (
        f"{', '.join(incident.channels)} will be told with the next delivery"
        if incident.channels
        else "nobody has been told of it"
    )


def _say(sentence: str) -> None:
    print_lines("\n".join(wrapped(sentence, indent=0)))


MEMBERS = 50
"""Items of an incident that are named."""


def listing(path: Path | None, target: str | None, limit: int, *, show_all: bool, as_json: bool) -> None:
    """Prints incidents, newest first.

    Raises:
        ConfigError: there is no such target.
        StoreError: the database can't be used.
    """
    with opened(load(path)) as app:
        known_target(app, target)
        with reading(app.engine) as conn:
            found = incidents.list_incidents(conn, target=target, open_only=not show_all, limit=limit)
            holding = silences.active(conn, now=utcnow())
    if as_json:
        print_json([incident_json(incident, holding) for incident in found])
    elif not found and not show_all:
        print_lines("No open incidents.")
    else:
        print_lines(incidents_text(found, now=utcnow(), silences=holding))


def show(path: Path | None, incident_id: int, *, as_json: bool) -> None:
    """Prints one incident.

    Raises:
        ConfigError: there is none with that number.
        StoreError: the database can't be used.
    """
    with opened(load(path)) as app, reading(app.engine) as conn:
        incident = existing(incidents.find(conn, incident_id), incident_id)
        events = incidents.events(conn, incident_id)
        named = members.sample(conn, incident_id=incident_id, limit=MEMBERS)
        holding = silences.active(conn, now=utcnow())
    if as_json:
        life = [
            {"at": event.at.isoformat(), "kind": event.kind, "reason": event.reason, "run_id": event.run_id}
            for event in events
        ]
        print_json({**incident_json(incident, holding), "members": [item_id for item_id, *_ in named], "events": life})
    else:
        print_lines(incident_text(incident, events=events, members=named, now=utcnow(), silences=holding))
