"""One simulated document and its walk through the stages. It reads no clock: every call takes the time in seconds."""

from dataclasses import dataclass

__all__ = ["STAGES", "Item", "end_of"]

STAGES = (
    "STARTED", "QUEUED", "FETCHING", "NORMALIZING", "CHUNKING", "EMBEDDING", "SYNCED", "ENRICHED", "COMPLETED",
)  # fmt: skip
"""What a document walks through, in equal steps; TRANSCRIBING is for sound and occurs only when set."""


def end_of(filename: str) -> str:
    """Where a document's walk ends, by its name: FAILED with `fail` in it, CHUNKING with `stuck`, else COMPLETED."""
    return "FAILED" if "fail" in filename else "CHUNKING" if "stuck" in filename else "COMPLETED"


@dataclass(slots=True, kw_only=True)
class Item:
    """One document in the engine."""

    item_id: str
    publisher_id: str
    filename: str
    created_s: float
    changed_s: float
    """When it was last changed by hand."""
    status: str | None = None
    """A status that it keeps; None while it walks through the stages."""
    producer_id: str | None = None
    """What its uploader calls it."""
    text: str = ""
    """What was uploaded, as far as it can be read as text; empty for one that was made by hand."""

    @property
    def title(self) -> str:
        """The file's name without its ending."""
        return self.filename.rsplit(".", 1)[0]

    def row(self, status: str) -> dict[str, object]:
        """What a list says of it, in a status that it has."""
        said: dict[str, object] = {"item_id": self.item_id, "item_title": self.title, "filename": self.filename}
        said["status"] = status
        if self.producer_id is not None:
            said["producer_id"] = self.producer_id
        return said

    def standing(self, now_s: float, *, item_seconds: float) -> tuple[str, float]:
        """Its status, and since when it has had it (seconds on the clock that `now_s` was read from).

        Args:
            now_s: seconds on the clock.
            item_seconds: how long the walk takes from the first stage to the last (≥ 0).
        """
        if self.status is not None:
            return self.status, self.changed_s
        end, last = end_of(self.filename), len(STAGES) - 1
        goal = STAGES.index(end) if end in STAGES else last
        walked = min((now_s - self.created_s) / item_seconds, 1.0) if item_seconds else 1.0
        position = min(int(walked * last), goal)
        since_s = self.created_s + item_seconds * position / last
        return end if position == goal else STAGES[position], max(since_s, self.changed_s)
