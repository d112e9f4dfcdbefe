"""How a file of ids is to be read, what comes of a line, and what every format has in common. Pure."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from monitor.model import LogEntry
from monitor.store.screening import LONGEST_ID
from monitor.store.text import UNSTORABLE, spelled_out
from monitor.synclog.moments import moment

__all__ = ["FORMATS", "ITEM_ID", "BadLine", "Blank", "FileSpec", "Line", "entry_of", "shown"]

FORMATS = ("csv", "jsonl")
ITEM_ID = "item_id"
LONGEST_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """A file as the user describes it."""

    name: str
    """What people call it."""
    format: str | None = None
    """One of `FORMATS`; None: guessed."""
    id_column: str | None = None
    """None: `item_id`, or the only column there is."""
    submitted_at_column: str | None = None
    group_column: str | None = None
    zone: tzinfo = field(default=UTC)
    """What times without an offset are in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """Lines of the file that can't be used: one, or several that belong together."""

    first: int
    last: int
    reason: str

    @property
    def lines(self) -> int:
        """How many they are."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Blank:
    """A line with nothing on it: of no meaning at the end of a file, a missing id anywhere else."""

    line: int


Line = LogEntry | BadLine | Blank
"""What comes of one line, or of the several that a quoted field spans."""


def entry_of(*, item_id: str, submitted_at: object, group: str | None, zone: tzinfo) -> LogEntry | str:
    """One row of the sync log from what a line says, or the reason why there can be none.

    Args:
        item_id: the id, to the letter.
        submitted_at: the upload time as it stands there; None or "" when the line has none.
        group: the group; None when the line has none.
        zone: what times without an offset are in.
    """
    if fault := _fault(item_id):
        return fault
    at: datetime | None = None
    if submitted_at is not None and submitted_at != "":
        at = moment(submitted_at, zone)
        if at is None:
            return f"{shown(submitted_at)} is no time; write it like 2026-03-01T12:00:00Z, or as Unix seconds"
    return LogEntry(item_id=item_id, submitted_at=at, group=group or None)


def _fault(item_id: str) -> str | None:
    if not item_id or item_id.isspace():
        return "its id is blank"
    if len(item_id) > LONGEST_ID:
        return f"its id is longer than {LONGEST_ID} characters: {shown(item_id)}"
    if UNSTORABLE.search(item_id):
        return f"its id holds a control character: {shown(item_id)}"
    return None


def shown(value: object) -> str:
    """A value of the file, quoted for people: short, and free of what would garble a terminal."""
    text = str(value)
    cut = text[:LONGEST_SHOWN]
    return f'"{spelled_out(cut)}{"…" if len(text) > len(cut) else ""}"'
