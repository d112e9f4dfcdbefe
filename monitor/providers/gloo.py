"""Gloo AI's Data Engine: one item by its UUID, and its status vocabulary. It reads; it does not send.

Of the statuses only COMPLETED and FAILED are documented as terminal; the public cookbook also takes ERROR for failed.
Case is not promised. A status that nobody has described counts as pending and is marked as not recognised.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec

from monitor.errors import ConfigError
from monitor.exchange import Request
from monitor.model import BadBody, ItemState, ItemStatus

__all__ = ["Gloo"]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_STAGE_CHARS = 200
_PENDING = (
    "STARTED",
    "QUEUED",
    "FETCHING",
    "TRANSCRIBING",
    "NORMALIZING",
    "CHUNKING",
    "EMBEDDING",
    "SYNCED",
    "ENRICHED",
)
_TABLE: Mapping[str, ItemState] = {
    **{status.casefold(): ItemState.PENDING for status in _PENDING},
    "completed": ItemState.COMPLETED,
    "failed": ItemState.FAILED,
    "error": ItemState.FAILED,
}
_STATES = {str(state): state for state in (ItemState.COMPLETED, ItemState.PENDING, ItemState.FAILED)}


class _Item(msgspec.Struct):
    status: str
    item_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gloo:
    """Gloo AI (API reference: Get Item Metadata, `GET /engine/v2/items/{item_id}`)."""

    publisher_id: str | None = None
    states: Mapping[str, ItemState] = field(default_factory=lambda: _TABLE)
    """State by case-folded status."""

    @classmethod
    def configured(cls, *, publisher_id: str | None, statuses: Mapping[str, Sequence[str]]) -> "Gloo":
        """With a target's own `statuses` on top of the table.

        Raises:
            ConfigError: a state is not one of completed, pending, failed, or a status is given two states.
        """
        return cls(publisher_id=publisher_id, states={**_TABLE, **_overrides(statuses)})

    @property
    def name(self) -> str:
        """What configuration calls it."""
        return "gloo"

    @property
    def token_path(self) -> str:
        """OAuth2 client credentials with HTTP Basic."""
        return "/oauth2/token"

    @property
    def token_scope(self) -> str:
        """The one scope that the API documents."""
        return "api/access"

    def valid_id(self, item_id: str) -> bool:
        """Whether it is a UUID in its canonical form (8-4-4-4-12 hexadecimal digits, either case)."""
        return _UUID.fullmatch(item_id) is not None

    def item_request(self, item_id: str) -> Request:
        """`GET /engine/v2/items/{item_id}`, everything but letters, digits and `-._~` escaped."""
        return Request(
            method="GET",
            path=f"/engine/v2/items/{quote(item_id, safe='', errors='replace')}",
            template="/engine/v2/items/{item_id}",
        )

    def read_item(self, body: bytes, item_id: str) -> ItemStatus | BadBody:
        """The status of the item that was asked for.

        Returns:
            The state with the raw status as `stage` (printable, at most 200 characters), or a `BadBody` when the body
            is not a JSON object with a text `status`, or is about another item.
        """
        try:
            item = msgspec.json.decode(body, type=_Item)
        except msgspec.ValidationError as error:
            # msgspec names types and field names, never values
            return BadBody(reason=f"an item's body has another form: {error}")
        except (ValueError, RecursionError):
            return BadBody(reason="an item's body is not JSON" if body else "an item's body is empty")
        if item.item_id is not None and item.item_id.casefold() != item_id.casefold():
            return BadBody(reason="the body is about another item than the one asked for")
        stage = _printable(item.status)
        if not stage:
            return BadBody(reason="an item's status is blank")
        # only what was sent clean is known: tidied up for people, anything could look like a known status
        state = self.states.get(stage.casefold()) if item.status.strip().isprintable() else None
        return ItemStatus(state=state or ItemState.PENDING, stage=stage, recognised=state is not None)


def _printable(text: str) -> str:
    kept = "".join(char if char.isprintable() else " " for char in text[: _STAGE_CHARS * 4])
    return " ".join(kept.split())[:_STAGE_CHARS].rstrip()


def _overrides(statuses: Mapping[str, Sequence[str]]) -> dict[str, ItemState]:
    problems: list[str] = []
    states: dict[str, ItemState] = {}
    for name, given in statuses.items():
        state = _STATES.get(name)
        if state is None:
            problems.append(f"statuses.{name[:60]} is not a state: use {', '.join(_STATES)}")
            continue
        problems += [
            f"statuses gives {_printable(status)[:60]} two states: keep it under one of them"
            for status in given
            if states.setdefault(_printable(status).casefold(), state) is not state
        ]
    if problems:
        raise ConfigError(problems)
    return states
