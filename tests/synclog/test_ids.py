import pickle
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.json_path import look_up, parse_json_path
from monitor.synclog.ids import IdFormat, NotAnId, canonical_uuid, id_reader, read_text

UUID_1 = UUID("6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11")
CANONICAL = str(UUID_1)
FORMS = {
    "canonical": CANONICAL,
    "32 digits": UUID_1.hex,
    "capitals": CANONICAL.upper(),
    "braces": f"{{{CANONICAL}}}",
    "braces and capitals": f"{{{CANONICAL.upper()}}}",
    "URN": UUID_1.urn,
    "URN in capitals": UUID_1.urn.upper(),
    "16 bytes": UUID_1.bytes,
    "text in bytes": CANONICAL.encode(),
    "blanks around it": f" {CANONICAL}  ",
}


def reader(id_format="auto", *, uuid_ids=False, path=None):
    return id_reader(
        id_format=IdFormat(id_format), uuid_ids=uuid_ids, path=None if path is None else parse_json_path(path)
    )


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("options", [{"uuid_ids": True}, {"id_format": "uuid"}], ids=str)
def test_all_forms_of_a_uuid_become_one(form, options):
    assert reader(**options)(form) == CANONICAL


@pytest.mark.parametrize("form", [form for form in FORMS.values() if isinstance(form, str)], ids=repr)
@pytest.mark.parametrize("options", [{}, {"id_format": "as_is", "uuid_ids": True}], ids=str)
def test_texts_stay_as_they_are_where_ids_need_not_be_uuids(form, options):
    assert reader(**options)(form) == form


OTHERS = ["doc-1", CANONICAL[:-1], f"{{{CANONICAL}", f"{UUID_1.hex[:8]}-{UUID_1.hex[8:]}", "g" * 32, UUID_1.hex + "0"]


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_uuid_stays_or_is_refused_where_only_uuids_are_ids(other):
    assert canonical_uuid(other) is None
    assert reader(uuid_ids=True)(other) == other
    assert reader("uuid")(other) == NotAnId("no UUID", other)
    assert reader("uuid")("  ") == "  "


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"bytes", "bytes"),
        ("ü".encode(), "ü"),
        (b"\xff\x00", "ff00"),
        (b"a\tb", "610962"),
        (b"0123456789abcdef", "0123456789abcdef"),
        ("aaaaaaAéaaaaaaa".encode(), "aaaaaaAéaaaaaaa".encode().hex()),
        pytest.param(memoryview(b"bytes"), "bytes", id="a view of bytes"),
        (pickle.dumps({"id": 1}), NotAnId("a Python pickle")),
        ('{"item_id": "a"}', NotAnId("a JSON object")),
        ('["a"]', NotAnId("a JSON array")),
        ("{a}", "{a}"),
        ("[draft] a", "[draft] a"),
        (True, NotAnId("a boolean")),
        (7.0, "7"),
        (1.5, "1.5"),
        (float("inf"), "inf"),
        (Decimal("12.0"), "12"),
        (Decimal("NaN"), "NaN"),
        (None, None),
    ],
    ids=repr,
)
def test_a_value_of_any_type_is_an_id_or_no_id(value, read):
    assert read_text(value) == read


@given(value=st.uuids())
def test_the_bytes_of_uuids_come_out_in_one_form(value):
    variant = UUID(bytes=value.bytes[:8] + bytes([0x80 | value.bytes[8] & 0x3F]) + value.bytes[9:])
    assert read_text(variant.bytes) == variant.hex
    assert reader(uuid_ids=True)(value.bytes) == str(value)


@given(value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals())
def test_any_value_is_read(value):
    for read in (reader(), reader("uuid"), reader(path="$.a"), reader(uuid_ids=True, path="$")):
        assert isinstance(read(value), str | NotAnId | None)


JSON = '{"item_id": "a", "n": 17, "x": 17.0, "no": null, "is": true, "in": {"ids": ["b", ["c"]]}, "file id": "d"}'


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("$.item_id", "a"),
        ("$.n", "17"),
        ("$.x", "17"),
        ("$.no", None),
        ("$.missing", None),
        ("$.item_id.deeper", None),
        ("$[0]", None),
        ("$.in.ids[0]", "b"),
        ("$.in.ids[1][0]", "c"),
        ("$.in.ids[9]", None),
        ("$.item_id[0]", None),
        ("$['file id']", "d"),
        ('$["file id"]', "d"),
        ('$["in"].ids[0]', "b"),
        ("$.is", NotAnId("a JSON boolean")),
        ("$.in", NotAnId("a JSON object")),
        ("$.in.ids", NotAnId("a JSON array")),
        ("$", NotAnId("a JSON object")),
    ],
)
def test_an_id_is_taken_out_of_json(path, read):
    assert reader(path=path)(JSON) == read
    assert reader(path=path)(JSON.encode()) == read


def test_odd_json_is_no_id_and_ids_in_json_take_the_form_too():
    assert reader(path="$.a")("no json {") == NotAnId("no JSON")
    assert reader(path="$.a")(b"\xff{") == NotAnId("no JSON")
    assert reader(path="$.a")("[" * 100_000).kind == "no JSON"
    assert (reader(path="$.a")(" "), reader(path="$.a")(None), reader(path="$.a")(7)) == ("", None, None)
    assert reader(path="$")('"doc"') == "doc"
    assert reader(path="$.id", uuid_ids=True)(f'{{"id": "{UUID_1.hex}"}}') == CANONICAL


@pytest.mark.parametrize(
    "path",
    [
        "",
        "item_id",
        "$.",
        "$..a",
        "$.*",
        "$[*]",
        "$[-1]",
        "$[01]",
        "$.a[",
        "$[a]",
        "$[?@.a]",
        "$.a b",
        '$["\\x"]',
        "$['']",
    ],
)
def test_a_path_to_more_than_one_value_is_refused(path):
    with pytest.raises(ValueError, match=r'^must be "\$" with members and positions'):
        parse_json_path(path)


def test_a_path_may_name_any_member():
    assert parse_json_path("$") == ()
    assert parse_json_path('$["a.b"][0].ü["q\\"t"]') == ("a.b", 0, "ü", 'q"t')
    assert look_up({"a.b": [{"ü": {'q"t': 1}}]}, ("a.b", 0, "ü", 'q"t')) == 1
