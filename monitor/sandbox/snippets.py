"""The snippets of a document: its text in pieces, as a search over it would give them. Pure."""

import textwrap
from collections.abc import Mapping

from monitor.sandbox.item import Item

__all__ = ["MOST_TEXT", "read_text", "snippets"]

MOST_TEXT = 65_536
"""How much of an upload is kept, in bytes."""
WIDTH = 400


def read_text(content: bytes) -> str:
    """What of an upload can be shown in snippets: its beginning, with what is no UTF-8 replaced."""
    return content[:MOST_TEXT].decode("utf-8", errors="replace")


def snippets(item: Item, *, limit: int) -> Mapping[str, object]:
    """The body of an answer about a document that is completed.

    Args:
        item: whose text is cut; one that was made by hand has a sentence with its title in it.
        limit: at most so many snippets (≥ 1).
    """
    text = item.text or f"This is the simulated text of {item.title}."
    parts = textwrap.wrap(text, WIDTH)
    data = [{"id": f"{item.item_id}-{n}", "part": n, "snippet": part} for n, part in enumerate(parts[:limit])]
    return {"data": data, "pagination": {"total": len(parts)}}
