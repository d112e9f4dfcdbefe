import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.providers.envelope import ArrayFinder
from monitor.providers.json_stream import JsonArrayReader
from monitor.providers.paths import value_at

BODIES = {
    "first": ('{"data": [1]}', "data"),
    "after others": ('{"n": 1, "data": [1], "next": "c"}', "data"),
    "deeper": ('{"a": {"b": [{"x": []}], "data": [1]}}', "a.data"),
    "in an array": ('[[], {"data": [1]}]', "1.data"),
    "an array in an array": ('{"pages": [[0], [1]]}', "pages.1"),
    "a name that needs escapes": ('{"d\\u0061ta": [1]}', "data"),
    "brackets in texts": ('{"x": "data\\": [", "y": "}", "data": [1]}', "data"),
    "a value like the name": ('{"x": "data", "data": [1]}', "data"),
    "the same name elsewhere": ('{"x": {"data": [0]}, "data": [1]}', "data"),
}
ABSENT = ["", "{}", "[]", '{"data": {}}', '{"data": "["}', "<html>", '{"x": {"data": [1]}}', '}]"', '{"\\x": [1]}']


def find(body, path, step):
    finder, seen = ArrayFinder(path), bytearray()
    for start in range(0, len(body), step):
        seen += body[start : start + step]
        at = finder.find(seen)
        if at is not None:
            return at
    return None


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(("body", "path"), BODIES.values(), ids=BODIES)
def test_the_array_at_a_path_is_found_however_the_body_arrives(body, path, step):
    at = find(body.encode(), path, step)
    assert json.JSONDecoder().raw_decode(body[at:])[0] == [1]


@pytest.mark.parametrize("body", ABSENT)
def test_no_other_array_is_taken_for_it(body):
    assert find(body.encode(), "data", 2) is None


KEYS = st.text(max_size=4).filter(lambda key: key not in {"data", "result"})
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=12)
VALUES = st.recursive(LEAVES, lambda some: st.lists(some, max_size=4) | st.dictionaries(KEYS, some, max_size=4))
ROWS = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=8)


@given(
    before=st.dictionaries(KEYS, VALUES, max_size=3),
    after=st.dictionaries(KEYS, VALUES, max_size=3),
    rows=ROWS,
    nested=st.booleans(),
    indent=st.sampled_from([None, 1]),
    step=st.integers(1, 80),
)
def test_a_list_in_an_envelope_is_read_as_if_it_were_whole(before, after, rows, nested, indent, step):
    inner = {**before, "data": rows, **{key: value for key, value in after.items() if key not in before}}
    path, value = ("result.data", {"x": 1, "result": inner, "y": [{}]}) if nested else ("data", inner)
    body = json.dumps(value, indent=indent).encode()
    reader, found = JsonArrayReader(object, path=path), []
    for start in range(0, len(body), step):
        found += reader.feed(body[start : start + step])
    found += reader.finish()
    assert (found, reader.error) == (rows, None)
    rest = json.loads(reader.envelope)
    assert value_at(rest, path) == []
    (rest["result"] if nested else rest)["data"] = rows
    assert rest == value


@given(st.binary(max_size=80), st.integers(1, 20))
def test_any_bytes_in_an_envelope_raise_nothing(body, step):
    reader = JsonArrayReader(object, path="data")
    for start in range(0, len(body), step):
        reader.feed(b'{"data":['[start : start + step] + body[start : start + step])
    reader.finish()
    assert reader.error is None or reader.error.strip(), "an error says what is wrong"
