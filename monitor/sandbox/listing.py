"""The list of all items as JSON, piece by piece: a million items never stand in memory as text at once."""

from collections.abc import Iterator, Sequence

import msgspec

from monitor.sandbox.item import Item

__all__ = ["pieces"]

ROWS_PER_PIECE = 2_000
MOST_ENDINGS = 10_000


def pieces(items: Sequence[Item], *, now_s: float, item_seconds: float) -> Iterator[bytes]:
    """A JSON array of the items' rows, in pieces of some 250 KB; a short list is a single piece.

    Args:
        items: in the order in which they are listed.
        now_s: the moment at which their statuses are read.
        item_seconds: how long an item walks.
    """
    endings: dict[tuple[str, str | None, float, str | None], str] = {}

    def row(item: Item) -> str:
        # items that were made together differ in nothing but their ids: the rest is written once
        alike = (item.filename, item.status, item.created_s, item.producer_id)
        ending = endings.get(alike)
        if ending is None:
            if len(endings) >= MOST_ENDINGS:
                endings.clear()
            rest = item.row(item.standing(now_s, item_seconds=item_seconds)[0])
            del rest["item_id"]
            ending = endings[alike] = msgspec.json.encode(rest).decode()[1:]
        return f'{{"item_id":"{item.item_id}",{ending}'

    opening = "["
    for start in range(0, len(items), ROWS_PER_PIECE):
        last = start + ROWS_PER_PIECE >= len(items)
        rows = ",".join(map(row, items[start : start + ROWS_PER_PIECE]))
        yield f"{opening}{rows}{']' if last else ''}".encode()
        opening = ","
    if not items:
        yield b"[]"
