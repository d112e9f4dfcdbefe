"""What every writer gets: the database, and the documents to record. Standard library only.

A writer runs as `python write_NAME.py URL CASE` in a folder of its own. By default the reader must return `DOCUMENTS`;
a writer whose tool chooses ids or times itself says with `record` what they are.
"""

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

URL = sys.argv[1]
CASE = sys.argv[2]
POSTGRES = URL.startswith("postgresql")
SQLITE_PATH = "" if POSTGRES else URL.removeprefix("sqlite:///")


@dataclass(frozen=True)
class Document:
    """One uploaded document."""

    id: str
    uploaded_at: datetime
    collection: str

    @property
    def uuid(self):
        return UUID(self.id)


def _read(name):
    rows = json.loads(Path(__file__).with_name("documents.json").read_text(encoding="utf-8"))[name]
    return [Document(row["id"], datetime.fromisoformat(row["uploaded_at"]), row["collection"]) for row in rows]


DOCUMENTS = _read("documents")
DELETED = _read("deleted")
"""To be deleted again, in the tool's way, or to be left unfinished: the reader must not return them."""


def driver_url(postgres, sqlite="sqlite"):
    """The URL with the drivers that a tool's SQLAlchemy needs."""
    scheme, _, rest = URL.partition("://")
    return f"{postgres if scheme == 'postgresql' else sqlite}://{rest}"


def record(rows):
    """The ids and times that the reader must return: (id, time), or (id, not before, not after)."""
    given = [{"id": str(row[0]), "times": [time.isoformat() for time in row[1:] if time]} for row in rows]
    Path("given.json").write_text(json.dumps(given), encoding="utf-8")
