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

    from monitor.incidents.decide import OperatorAction

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
    from monitor.reports.incident_views import OPEN_STATES, IncidentFilter, incidents_json, incidents_view
    from monitor.reports.incidents import incidents_text

    wanted = IncidentFilter(target=target, states=frozenset() if show_all else OPEN_STATES)
    with open_app(loaded) as app:
        require_known_target(app, target)
        with reading(app.engine) as conn:
            view = incidents_view(conn, wanted, limit=limit, now=utcnow())
    if as_json:
        print_json(incidents_json(view))
    elif not view.incidents and not show_all:
        print_lines("No open incidents.")
    else:
        text = incidents_text(
            view.incidents, now=view.now, silences=view.silences, total=view.total, width=terminal_width()
        )
        print_lines(text)


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
    from monitor.reports.incident_views import incident_view, incident_view_json
    from monitor.reports.incidents import incident_text

    with open_app(loaded) as app, reading(app.engine) as conn:
        shown = limit or (None if as_json else MEMBERS)
        view = require_found(incident_view(conn, incident_id, limit=shown, now=utcnow()), incident_id)
    if as_json:
        print_json(incident_view_json(view))
        return
    text = incident_text(
        view.incident,
        events=view.events,
        members=view.members,
        now=view.now,
        silences=view.silences,
        width=terminal_width(),
    )
    print_lines(text)


@app.command()
def explain(
    incident_id: IncidentNumber,
    config: ConfigPath = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", min=1, max=1_000_000, metavar="N", help="Show the newest N runs.", show_default="10000"
        ),
    ] = None,
    before: Annotated[
        int | None, typer.Option(min=1, max=2**63 - 1, metavar="RUN", help="Show the runs before this one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain, run by run, why an incident opened and ended, and why notifications were sent or not.

    Example: ingestion-monitor incidents explain 3
    """
    loaded = load(config)
    from monitor.app import utcnow
    from monitor.database.engine import reading
    from monitor.reports.explain import MAX_RUNS, explain_json, explain_text, explain_view

    with open_app(loaded) as app, reading(app.engine) as conn:
        shown = limit or MAX_RUNS
        data = explain_view(conn, app.config.rules, incident_id, now=utcnow(), limit=shown, before=before)
        data = require_found(data, incident_id)
    if as_json:
        print_json(explain_json(data))
    else:
        print_lines(explain_text(data))


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
    act: "Callable[[Connection, int, OperatorAction], Sequence[str]]",
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


def _ack(conn: "Connection", incident_id: int, action: "OperatorAction") -> Sequence[str]:
    from monitor.app import utcnow
    from monitor.reports.actions import acknowledge

    return require_found(acknowledge(conn, incident_id, action, now=utcnow()), incident_id).sentences


def _resolve(conn: "Connection", incident_id: int, action: "OperatorAction") -> Sequence[str]:
    from monitor.app import utcnow
    from monitor.reports.actions import resolve

    return require_found(resolve(conn, incident_id, action, now=utcnow()), incident_id).sentences
