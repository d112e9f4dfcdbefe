"""`incidents …`: lists, shows and explains incidents; acknowledges and resolves them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli.options import AsJson, By, ConfigPath, TargetName, group
from monitor.cli.session import (
    author_name,
    clean_comment,
    load,
    open_app,
    print_json,
    print_lines,
    require_found,
    require_known_target,
    terminal_width,
)
from monitor.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from monitor.app import App
    from monitor.incidents.decide import OperatorAction
    from monitor.model import Incident
    from monitor.reports.explain import ExplainData

app = group("Incidents: what is or was wrong.")

MEMBERS = 1000
"""Items of an incident that `show` prints as text, unless told otherwise; JSON has all."""

IncidentNumber = Annotated[int, typer.Argument(min=1, max=2**63 - 1, help="Its number, as `incidents list` prints it.")]
IncidentNumbers = Annotated[
    list[int], typer.Argument(min=1, max=2**63 - 1, help="Their numbers, as `incidents list` prints them.")
]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="What others should know.")]


@app.command("list")
def listing(
    config: ConfigPath = None,
    target: TargetName = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Resolved ones too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first: the open ones, or all.

    Example: ingestion-monitor incidents list --all
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading
    from monitor.incidents import silence_store
    from monitor.incidents import store as incident_store
    from monitor.reports.formatting import count_limit, counted_list
    from monitor.reports.incidents import incident_json, incidents_text

    with open_app(loaded) as app:
        require_known_target(app, target)
        with reading(app.engine) as conn:
            found = incident_store.list_incidents(conn, target=target, open_only=not show_all, limit=limit)
            total = incident_store.count_incidents(
                conn, target=target, open_only=not show_all, at_most=count_limit(limit)
            )
            silences = silence_store.active(conn, now=utcnow())
    if as_json:
        print_json(counted_list("incidents", [incident_json(incident, silences) for incident in found], total=total))
    elif not found and not show_all:
        print_lines("No open incidents.")
    else:
        print_lines(incidents_text(found, now=utcnow(), silences=silences, total=total, width=terminal_width()))


@app.command()
def show(
    incident_id: IncidentNumber,
    config: ConfigPath = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", min=1, max=1_000_000, help="How many items.", show_default=f"{MEMBERS}; in JSON all"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one incident: evidence, items, what to check, and what happened.

    Example: ingestion-monitor incidents show 3
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading
    from monitor.incidents import members, silence_store
    from monitor.incidents import store as incident_store
    from monitor.reports.formatting import cut_list, json_values
    from monitor.reports.incidents import incident_json, incident_text

    with open_app(loaded) as app, reading(app.engine) as conn:
        incident = require_found(incident_store.find(conn, incident_id), incident_id)
        events = incident_store.events(conn, incident_id)
        named = members.listing(conn, incident_id=incident_id, limit=limit or (None if as_json else MEMBERS))
        silences = silence_store.active(conn, now=utcnow())
    if not as_json:
        text = incident_text(
            incident, events=events, members=named, now=utcnow(), silences=silences, width=terminal_width()
        )
        print_lines(text)
        return
    history = [
        {"at": event.at.isoformat(), "kind": event.kind, "reason": event.reason, "run_id": event.run_id}
        for event in events
    ]
    shown = cut_list("members", [each.item_id for each in named], total=incident.member_count)
    print_json({**incident_json(incident, silences), **shown, "member_details": json_values(named), "events": history})


@app.command()
def explain(incident_id: IncidentNumber, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Explain, run by run, why an incident opened and ended, and why notifications were sent or not.

    Example: ingestion-monitor incidents explain 3
    """
    loaded = load(config)
    from monitor.database.engine import reading
    from monitor.incidents import store as incident_store
    from monitor.reports.explain import explain_json, explain_text

    with open_app(loaded) as app, reading(app.engine) as conn:
        incident = require_found(incident_store.find(conn, incident_id), incident_id)
        data = _explain_data(conn, app, incident)
    if as_json:
        print_json(explain_json(data))
    else:
        print_lines(explain_text(data))


def _explain_data(conn: "Connection", app: "App", incident: "Incident") -> "ExplainData":
    from monitor.app import rules_for_target, utcnow
    from monitor.incidents import explain, silence_store
    from monitor.incidents import store as incident_store
    from monitor.incidents.rulebook import with_parameters
    from monitor.reports.explain import ExplainData

    rule, now = rules_for_target(app.config.rules, target=incident.target)[incident.cause], utcnow()
    events = [
        explain.TimelineEvent(at=each.at, kind=each.kind, reason=each.reason, run_id=each.run_id, data=each.data)
        for each in incident_store.events(conn, incident.id)
    ]
    stored = next((event.data["rule"] for event in reversed(events) if "rule" in event.data), None)
    then = with_parameters(rule, stored)
    runs_before = max(then.of, then.resolve_after) + explain.LEAD_RUNS
    history = explain.IncidentHistory(
        incident=incident,
        previous=explain.previous_incident(conn, incident),
        runs=explain.runs_around(conn, incident, window=then.window, at_least=runs_before),
        events=events,
        rule=rule,
        rule_at_opening=then,
    )
    sent_messages = explain.sent_messages(conn, incident.id)
    return ExplainData(
        history=history, sent_messages=sent_messages, silences=silence_store.active(conn, now=now), now=now
    )


@app.command()
def ack(
    incident_ids: IncidentNumbers,
    config: ConfigPath = None,
    by: By = None,
    comment: Comment = None,
    as_json: AsJson = False,
) -> None:
    """Acknowledge incidents: stops reminders, and notifies the channels that received the opening.

    Example: ingestion-monitor incidents ack 3 4 --comment "on it"
    """
    _for_each(config, incident_ids, _action(by, comment), _ack, as_json=as_json)


@app.command()
def resolve(
    incident_ids: IncidentNumbers,
    config: ConfigPath = None,
    by: By = None,
    comment: Comment = None,
    as_json: AsJson = False,
) -> None:
    """Resolve incidents by hand; further evidence reopens one, or opens another.

    Example: ingestion-monitor incidents resolve 3 --comment "the key was rotated on purpose"
    """
    _for_each(config, incident_ids, _action(by, comment), _resolve, as_json=as_json)


def _action(by: str | None, comment: str | None) -> "OperatorAction":
    from monitor.incidents.decide import OperatorAction

    return OperatorAction(by=author_name("--by", by), comment=clean_comment(comment))


def _for_each(
    path: Path | None,
    incident_ids: Sequence[int],
    action: "OperatorAction",
    act: "Callable[[Connection, int, OperatorAction], list[str]]",
    *,
    as_json: bool,
) -> None:
    """Acts on each incident in its own transaction. Raises StoreError if the database can't be used.

    Raises ConfigError at the end if an incident does not exist or is resolved; the others were done.
    """
    loaded = load(path)
    from monitor.database.engine import reading, writing
    from monitor.incidents import store as incident_store
    from monitor.reports.formatting import cut_list, wrap_lines
    from monitor.reports.incidents import incident_json

    problems: list[str] = []
    done: list[int] = []
    with open_app(loaded) as app:
        for number in dict.fromkeys(incident_ids):
            try:
                with writing(app.engine) as conn:
                    sentences = act(conn, number, action)
            except ConfigError as error:
                problems += error.problems
                continue
            done.append(number)
            for sentence in () if as_json else sentences:
                print_lines("\n".join(wrap_lines(sentence, indent=0)))
        if as_json:
            with reading(app.engine) as conn:
                changed = [require_found(incident_store.find(conn, number), number) for number in done]
            print_json(cut_list("incidents", [incident_json(incident) for incident in changed]))
    if problems:
        raise ConfigError(problems)


def _ack(conn: "Connection", incident_id: int, action: "OperatorAction") -> list[str]:
    from monitor.app import utcnow
    from monitor.reports.actions import acknowledge

    return require_found(acknowledge(conn, incident_id, action, now=utcnow()), incident_id)


def _resolve(conn: "Connection", incident_id: int, action: "OperatorAction") -> list[str]:
    from monitor.app import utcnow
    from monitor.reports.actions import resolve

    return require_found(resolve(conn, incident_id, action, now=utcnow()), incident_id)
