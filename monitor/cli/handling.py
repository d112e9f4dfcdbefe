"""`incidents ack` and `incidents resolve`: what a person does about incidents."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Connection

from monitor import handling
from monitor.cli.asked import comment_of, name_of
from monitor.cli.session import existing, load, opened, print_lines
from monitor.errors import ConfigError
from monitor.incidents.attention import taken_on
from monitor.incidents.handling import Word
from monitor.incidents.rules import REOPEN_WITHIN
from monitor.model import ITEM_CAUSES, Incident
from monitor.report.columns import moment
from monitor.report.figures import wrapped
from monitor.store.engine import writing
from monitor.wiring import utcnow

__all__ = ["ack", "resolve"]


def ack(path: Path | None, incident_ids: Sequence[int], by: str | None, comment: str | None) -> None:
    """Acknowledges incidents; of one that is acknowledged it says who has it.

    Raises:
        ConfigError: there is none with one of the numbers, or it is over; the others were done.
        StoreError: the database can't be used.
    """
    word = Word(by=name_of("--by", by), comment=comment_of(comment))
    _each(path, incident_ids, lambda conn, number: _ack(conn, number, word))


def resolve(path: Path | None, incident_ids: Sequence[int], by: str | None, comment: str | None) -> None:
    """Resolves incidents by hand, and says what will happen if their evidence goes on.

    Raises:
        ConfigError: there is none with one of the numbers, or it is over; the others were done.
        StoreError: the database can't be used.
    """
    word = Word(by=name_of("--by", by), comment=comment_of(comment))
    _each(path, incident_ids, lambda conn, number: _resolve(conn, number, word))


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


def _ack(conn: Connection, incident_id: int, word: Word) -> list[str]:
    handled = existing(handling.acknowledge(conn, incident_id, word=word, now=utcnow()), incident_id)
    incident = handled.incident
    if handled.done:
        return [
            f"Incident {incident.id} is acknowledged by {word.by}: {_told(incident)}.",
            "There are no reminders any more; new documents are told, and its end.",
        ]
    if said := taken_on(incident):
        return [f"Incident {incident.id} was {said}. Nothing was changed."]
    raise _over(incident, "there is nothing to acknowledge")


def _resolve(conn: Connection, incident_id: int, word: Word) -> list[str]:
    handled = existing(handling.resolve(conn, incident_id, word=word, now=utcnow()), incident_id)
    incident = handled.incident
    if not handled.done:
        raise _over(incident, "there is nothing to resolve")
    minutes = int(REOPEN_WITHIN.total_seconds() // 60)
    said = [
        f"Incident {incident.id} is resolved by {word.by}: {_told(incident)}.",
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
