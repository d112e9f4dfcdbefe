"""`incidents …`: lists and shows them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection

from monitor.app import App, rules_for_target, utcnow
from monitor.cli.option_values import author_name, clean_comment
from monitor.cli.session import load, open_app, print_json, print_lines, require_found, require_known_target
from monitor.database.engine import reading, writing
from monitor.errors import ConfigError
from monitor.incidents import acknowledge as actions
from monitor.incidents import explain as incident_history
from monitor.incidents import members, silence_store
from monitor.incidents import store as incident_store
from monitor.incidents.decide import REOPEN_WITHIN, OperatorAction
from monitor.incidents.explain import LEAD_RUNS, IncidentHistory, TimelineEvent
from monitor.incidents.rulebook import Rule, with_parameters
from monitor.incidents.silences import describe_acknowledgement
from monitor.model import ITEM_CAUSES, Incident
from monitor.reports.explain import ExplainData, explain_json, explain_text
from monitor.reports.formatting import format_time, wrap_lines
from monitor.reports.incidents import incident_json, incident_text, incidents_text


def explain(path: Path | None, incident_id: int, *, as_json: bool) -> None:
    """Prints why an incident opened and ended, and why people were told or not.

    Raises:
        ConfigError: there is none with that number.
        StoreError: the database can't be used.
    """
    with open_app(load(path)) as app, reading(app.engine) as conn:
        incident = require_found(incident_store.find(conn, incident_id), incident_id)
        account = _account(conn, app, incident)
    if as_json:
        print_json(explain_json(account))
    else:
        print_lines(explain_text(account))


def _account(conn: Connection, app: App, incident: Incident) -> ExplainData:
    rule, now = _rule(app, incident), utcnow()
    events = [
        TimelineEvent(at=each.at, kind=each.kind, reason=each.reason, run_id=each.run_id, data=each.data)
        for each in incident_store.events(conn, incident.id)
    ]
    stored = next((event.data["rule"] for event in reversed(events) if "rule" in event.data), None)
    then = with_parameters(rule, stored)
    history = IncidentHistory(
        incident=incident,
        previous=incident_history.previous_incident(conn, incident),
        runs=incident_history.runs_around(
            conn, incident, window=then.window, at_least=max(then.of, then.resolve_after) + LEAD_RUNS
        ),
        events=events,
        rule=rule,
        rule_at_opening=then,
    )
    sent_messages = incident_history.sent_messages(conn, incident.id)
    return ExplainData(
        history=history, sent_messages=sent_messages, silences=silence_store.active(conn, now=now), now=now
    )


def _rule(app: App, incident: Incident) -> Rule:
    return rules_for_target(app.config.rules, target=incident.target)[incident.cause]


def ack(path: Path | None, incident_ids: Sequence[int], by: str | None, comment: str | None) -> None:
    """Acknowledges incidents; of one that is acknowledged it says who has it.

    Raises:
        ConfigError: there is none with one of the numbers, or it is over; the others were done.
        StoreError: the database can't be used.
    """
    operator_action = OperatorAction(by=author_name("--by", by), comment=clean_comment(comment))
    _for_each(path, incident_ids, lambda conn, number: _ack(conn, number, operator_action))


def resolve(path: Path | None, incident_ids: Sequence[int], by: str | None, comment: str | None) -> None:
    """Resolves incidents by hand, and says what will happen if their evidence goes on.

    Raises:
        ConfigError: there is none with one of the numbers, or it is over; the others were done.
        StoreError: the database can't be used.
    """
    operator_action = OperatorAction(by=author_name("--by", by), comment=clean_comment(comment))
    _for_each(path, incident_ids, lambda conn, number: _resolve(conn, number, operator_action))


def _for_each(path: Path | None, incident_ids: Sequence[int], act: Callable[[Connection, int], list[str]]) -> None:
    """Does it to one after the other, and says of each what came of it, once that is stored."""
    problems: list[str] = []
    with open_app(load(path)) as app:
        for number in dict.fromkeys(incident_ids):
            try:
                with writing(app.engine) as conn:
                    sentences = act(conn, number)
            except ConfigError as error:
                problems += error.problems
                continue
            for sentence in sentences:
                _print_sentence(sentence)
    if problems:
        raise ConfigError(problems)


def _ack(conn: Connection, incident_id: int, operator_action: OperatorAction) -> list[str]:
    handled = require_found(
        actions.acknowledge(conn, incident_id, operator_action=operator_action, now=utcnow()), incident_id
    )
    incident = handled.incident
    if handled.changed:
        return [
            f"Incident {incident.id} is acknowledged by {operator_action.by}: {_recipients_text(incident)}.",
            "There are no reminders any more; new documents are told, and its end.",
        ]
    if earlier := describe_acknowledgement(incident):
        return [f"Incident {incident.id} was {earlier}. Nothing was changed."]
    raise _already_resolved(incident, "there is nothing to acknowledge")


def _resolve(conn: Connection, incident_id: int, operator_action: OperatorAction) -> list[str]:
    handled = require_found(
        actions.resolve(conn, incident_id, operator_action=operator_action, now=utcnow()), incident_id
    )
    incident = handled.incident
    if not handled.changed:
        raise _already_resolved(incident, "there is nothing to resolve")
    minutes = int(REOPEN_WITHIN.total_seconds() // 60)
    sentences = [
        f"Incident {incident.id} is resolved by {operator_action.by}: {_recipients_text(incident)}.",
        f"Evidence that goes on reopens it within {minutes} minutes, and opens a new incident after that.",
    ]
    if incident.cause in ITEM_CAUSES:
        sentences.append("For documents that are as they should be: `ingestion-monitor items ignore ID --reason …`.")
    return sentences


def _already_resolved(incident: Incident, consequence: str) -> ConfigError:
    return ConfigError(
        [f"incident {incident.id} is resolved, since {format_time(incident.resolved_at)} UTC: {consequence}"]
    )


def _recipients_text(incident: Incident) -> str:
    """Who hears of it with the next delivery."""
    return (
        f"{', '.join(incident.channels)} will be told with the next delivery"
        if incident.channels
        else "nobody has been told of it"
    )


def _print_sentence(sentence: str) -> None:
    print_lines("\n".join(wrap_lines(sentence, indent=0)))


MEMBERS = 50
"""Items of an incident that are named."""


def listing(path: Path | None, target: str | None, limit: int, *, show_all: bool, as_json: bool) -> None:
    """Prints incidents, newest first.

    Raises:
        ConfigError: there is no such target.
        StoreError: the database can't be used.
    """
    with open_app(load(path)) as app:
        require_known_target(app, target)
        with reading(app.engine) as conn:
            found = incident_store.list_incidents(conn, target=target, open_only=not show_all, limit=limit)
            active_silences = silence_store.active(conn, now=utcnow())
    if as_json:
        print_json([incident_json(incident, active_silences) for incident in found])
    elif not found and not show_all:
        print_lines("No open incidents.")
    else:
        print_lines(incidents_text(found, now=utcnow(), silences=active_silences))


def show(path: Path | None, incident_id: int, *, as_json: bool) -> None:
    """Prints one incident.

    Raises:
        ConfigError: there is none with that number.
        StoreError: the database can't be used.
    """
    with open_app(load(path)) as app, reading(app.engine) as conn:
        incident = require_found(incident_store.find(conn, incident_id), incident_id)
        events = incident_store.events(conn, incident_id)
        named = members.sample(conn, incident_id=incident_id, limit=MEMBERS)
        active_silences = silence_store.active(conn, now=utcnow())
    if as_json:
        history = [
            {"at": event.at.isoformat(), "kind": event.kind, "reason": event.reason, "run_id": event.run_id}
            for event in events
        ]
        print_json(
            {
                **incident_json(incident, active_silences),
                "members": [item_id for item_id, *_ in named],
                "events": history,
            }
        )
    else:
        print_lines(incident_text(incident, events=events, members=named, now=utcnow(), silences=active_silences))
