"""`incidents …`: lists and shows them."""

from pathlib import Path

from monitor.cli.session import existing, known_target, load, opened, print_json, print_lines
from monitor.report.incidents import incident_json, incident_text, incidents_text
from monitor.store import incidents, members, silences
from monitor.store.engine import reading
from monitor.wiring import utcnow

__all__ = ["listing", "show"]

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
            found = incidents.listing(conn, target=target, open_only=not show_all, limit=limit)
            holding = silences.in_force(conn, now=utcnow())
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
        holding = silences.in_force(conn, now=utcnow())
    if as_json:
        life = [
            {"at": event.at.isoformat(), "kind": event.kind, "reason": event.reason, "run_id": event.run_id}
            for event in events
        ]
        print_json({**incident_json(incident, holding), "members": [item_id for item_id, *_ in named], "events": life})
    else:
        print_lines(incident_text(incident, events=events, members=named, now=utcnow(), silences=holding))
