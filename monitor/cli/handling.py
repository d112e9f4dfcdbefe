"""`incidents ack` and `incidents resolve`: what a person does about an incident."""

from pathlib import Path

from monitor import handling
from monitor.cli.asked import comment_of, name_of
from monitor.cli.session import load, opened, print_lines
from monitor.errors import ConfigError
from monitor.handling import Handled
from monitor.incidents.attention import taken_on
from monitor.incidents.handling import Word
from monitor.incidents.rules import REOPEN_WITHIN
from monitor.model import ITEM_CAUSES, Incident
from monitor.report.columns import moment
from monitor.report.figures import wrapped
from monitor.store.engine import writing
from monitor.wiring import utcnow

__all__ = ["ack", "resolve"]


def ack(path: Path | None, incident_id: int, by: str | None, comment: str | None) -> None:
    """Acknowledges an incident; of one that is acknowledged it says who has it.

    Raises:
        ConfigError: there is none with that number, or it is over.
        StoreError: the database can't be used.
    """
    word = Word(by=name_of("--by", by), comment=comment_of(comment))
    with opened(load(path)) as app, writing(app.engine) as conn:
        handled = _found(incident_id, handling.acknowledge(conn, incident_id, word=word, now=utcnow()))
    incident = handled.incident
    if handled.done:
        _say(f"Incident {incident.id} is acknowledged by {word.by}: {_told(incident)}.")
        _say("There are no reminders any more; new documents are told, and its end.")
    elif said := taken_on(incident):
        _say(f"Incident {incident.id} was {said}. Nothing was changed.")
    else:
        raise _over(incident, "there is nothing to acknowledge")


def resolve(path: Path | None, incident_id: int, by: str | None, comment: str | None) -> None:
    """Resolves an incident by hand, and says what will happen if its evidence goes on.

    Raises:
        ConfigError: there is none with that number, or it is over.
        StoreError: the database can't be used.
    """
    word = Word(by=name_of("--by", by), comment=comment_of(comment))
    with opened(load(path)) as app, writing(app.engine) as conn:
        handled = _found(incident_id, handling.resolve(conn, incident_id, word=word, now=utcnow()))
    incident = handled.incident
    if not handled.done:
        raise _over(incident, "there is nothing to resolve")
    _say(f"Incident {incident.id} is resolved by {word.by}: {_told(incident)}.")
    minutes = int(REOPEN_WITHIN.total_seconds() // 60)
    _say(f"Evidence that goes on reopens it within {minutes} minutes, and opens a new incident after that.")
    if incident.cause in ITEM_CAUSES:
        _say("For documents that are as they should be: `ingestion-monitor items ignore ID --reason …`.")


def _found(incident_id: int, handled: Handled | None) -> Handled:
    if handled is None:
        raise ConfigError([f"there is no incident {incident_id}; `ingestion-monitor incidents list --all` has all"])
    return handled


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
