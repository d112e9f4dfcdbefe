import json

import pytest

from monitor.sandbox.engine import MAX_CACHED_ROWS, ROWS_PER_PIECE, Item, encode_rows


def made(count, **differing):
    fields = {"publisher_id": "p", "filename": "a.txt", "created_s": 0.0, "changed_s": 0.0, **differing}
    return [Item(item_id=str(n), **fields) for n in range(count)]


def written(items, now_s=0.0):
    return list(encode_rows(items, now_s=now_s, item_seconds=80.0))


@pytest.mark.parametrize("count", [0, 1, ROWS_PER_PIECE - 1, ROWS_PER_PIECE, ROWS_PER_PIECE + 1, 3 * ROWS_PER_PIECE])
def test_the_chunks_form_one_array_with_every_item_once(count):
    sent = written(made(count))
    assert [row["item_id"] for row in json.loads(b"".join(sent))] == [str(n) for n in range(count)]
    assert len(sent) == max(1, -(-count // ROWS_PER_PIECE))


def test_a_row_equals_the_item():
    items = [
        *made(1, status="QUEUED"),
        *made(1, filename='qu"ote\\.txt', producer_id="p-é"),
        *made(1, created_s=5.0),
        *made(1, created_s=30.0),
    ]
    rows = json.loads(b"".join(written(items, now_s=50.0)))
    assert rows == [item.row(item.status_at(50.0, item_seconds=80.0)[0]) for item in items]
    assert [row["status"] for row in rows] == ["QUEUED", "EMBEDDING", "CHUNKING", "FETCHING"]


def test_items_without_common_values_are_listed_correctly():
    items = [
        Item(item_id=str(n), publisher_id="p", filename=f"{n}.txt", created_s=0.0, changed_s=0.0)
        for n in range(MAX_CACHED_ROWS + 5)
    ]
    assert {row["item_id"]: row["filename"] for row in json.loads(b"".join(written(items)))} == {
        item.item_id: item.filename for item in items
    }
