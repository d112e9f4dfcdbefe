import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.providers.json_stream import JsonArrayReader


class Row(msgspec.Struct):
    item_id: str
    status: str


def read(body, sizes=(50,)):
    """The rows of a body in pieces of these sizes, repeatedly."""
    rows, found, start, turn = JsonArrayReader(Row), [], 0, 0
    while start < len(body):
        size = sizes[turn % len(sizes)]
        found += rows.feed(body[start : start + size])
        start, turn = start + size, turn + 1
    return rows, found + rows.finish()


NEARLY_ENDS = ["},{", '"}, {"', "\\", "]", "}"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(NEARLY_ENDS)
a_row = st.fixed_dictionaries(
    {"item_id": texts, "status": texts}, optional={"item_title": texts, "tags": st.lists(st.dictionaries(texts, texts))}
)


@given(
    st.lists(a_row, max_size=30),
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
    st.sampled_from([None, 2]),
    st.booleans(),
    st.sampled_from(["", "\ufeff", " \n"]),
)
def test_rows_are_read_from_pieces_of_any_size(written, sizes, indent, plain, before):
    body = (before + json.dumps(written, indent=indent, ensure_ascii=plain) + " \n").encode()
    rows, found = read(body, sizes)
    assert rows.error is None
    assert [(row.item_id, row.status) for row in found] == [(row["item_id"], row["status"]) for row in written]
    assert (rows.readable, rows.unreadable) == (len(written), 0)


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_any_bytes_are_read_without_an_exception(body, sizes):
    rows, found = read(body, sizes)
    assert rows.error is not None or len(found) == rows.readable


@given(st.binary(max_size=60), st.integers(0, 5))
def test_garbage_in_a_list_never_creates_rows(garbage, at):
    good = [b'{"item_id":"%d","status":"S"}' % n for n in range(6)]
    body = b"[" + b",".join([*good[:at], garbage, *good[at:]]) + b"]"
    _, found = read(body)
    assert {row.item_id for row in found} <= {str(n) for n in range(6)} | _written(garbage)


def _written(garbage):
    """Ids in garbage that happens to be JSON."""
    try:
        each = json.loads(b"[" + garbage + b"]")
    except (ValueError, RecursionError):
        return set()
    return {row["item_id"] for row in each if isinstance(row, dict) and isinstance(row.get("item_id"), str)}


ODD = {
    "a depth of 100,000": b'[{"item_id":"a","status":"S","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    "NaN": b'[{"item_id":"a","status":"S","x":NaN}]',
    "truncated": b'[{"item_id":"a","status":"S"},{"item_id":"b"',
    "a trailing word": b'[{"item_id":"a","status":"S"}] and more',
    "not UTF-8 as an id": b'[{"item_id":"\xff","status":"S"},{"item_id":"\xfe","status":"S"} x]',
    "one endless row": b'[{"item_id":"' + b"a" * (5 << 20),
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_a_body_that_is_not_an_array_of_rows_yields_nothing(body):
    rows, _ = read(body, (65_536,))
    assert rows.error is not None
    assert rows.feed(b"more") == rows.finish() == []


def test_malformed_rows_are_counted_and_skipped():
    rows, found = read(
        b'[{"item_id":"a","status":"S"},{"item_id":1,"status":"S"},[],7,{"item_id":"b","status":"S","n":1e999}]'
    )
    assert [row.item_id for row in found] == ["a", "b"]
    assert (rows.readable, rows.unreadable, rows.error) == (2, 3, None)


MAZES = {
    "many objects in a row": {"tags": [{"a": [{}] * (n % 3)} for n in range(60)]},
    "a title like the ends of rows": {"item_title": '"},{"item_id":"x","status":"S"},{' * 40},
    "a title that ends in escapes": {"item_title": '\\"' * 40 + "}]\\"},
}


@pytest.mark.parametrize("size", [1, 64, 999, 65_536])
@pytest.mark.parametrize("more", MAZES.values(), ids=MAZES)
def test_rows_are_found_without_a_guessable_boundary(more, size):
    written = [str(n) for n in range(8)]
    body = json.dumps([{"item_id": item_id, "status": "S", **more} for item_id in written]).encode()
    rows, found = read(body, (size,))
    assert rows.error is None
    assert [row.item_id for row in found] == written


def test_invalid_json_breaks_the_list():
    rows = JsonArrayReader(Row)
    assert rows.feed(b'[{"item_id":"a","status":"S"} {"item_id":"b","status":"S"},{"item_id":"c"') == []
    assert rows.error == "the list is not JSON"


SURROGATES = {
    "a pair": (rb"\ud83d\ude00", "\U0001f600"),
    "one alone": (rb"a\ud83d", "a\ufffd"),
    "the wrong half first": (rb"\ude00\ud83d.", "\ufffd\ufffd."),
    "a backslash before what looks like one": (rb"C:\\ud83d", r"C:\ud83d"),
}


@pytest.mark.parametrize("piece", [1, 40, 9999])
@pytest.mark.parametrize(("escaped", "item_id"), SURROGATES.values(), ids=SURROGATES)
def test_a_lone_surrogate_in_a_title_does_not_change_ids(escaped, item_id, piece):
    odd = rb'{"item_id":"%s","status":"S","item_title":"\udfff"}' % escaped
    rows, found = read(b'[{"item_id":"a","status":"S"},' + odd + b',{"item_id":"b","status":"S"}]', (piece,))
    assert (rows.error, [row.item_id for row in found]) == (None, ["a", item_id, "b"])


def test_a_huge_integer_in_an_unused_field_is_ignored():
    huge = b'{"item_id":"a","status":"S","n":' + b"9" * 5000 + b"}"
    rows, found = read(b"[" + huge + b',{"item_id":"b","status":"S"}]')
    assert (rows.error, [row.item_id for row in found]) == (None, ["a", "b"])


def test_an_empty_array_is_a_list_without_rows():
    rows, found = read(b" [ ] ")
    assert (rows.error, found) == (None, [])


def test_a_chunk_is_decoded_without_a_copy_of_it():
    long = "x" * (1 << 20)
    piece = json.dumps([{"item_id": "a", "status": "S", "item_title": long}, {"item_id": "b", "status": "S"}]).encode()
    rows = JsonArrayReader(Row)
    assert rows.feed(piece[:5]) == []
    tracemalloc.start()
    try:
        assert [row.item_id for row in rows.feed(piece[5:])] == ["a"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * len(piece), "there is only the piece, and the buffer"
    assert [row.item_id for row in rows.finish()] == ["b"]
