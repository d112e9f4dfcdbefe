import io
import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import ConfigError
from monitor.model import SyncLogEntry
from monitor.synclog.import_file import MAX_LINE_BYTES, BadLine, FileSpec, LineReader, read_items

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def found(content, name="ids", **spec):
    raw = content.encode() if isinstance(content, str) else content
    return read_items(LineReader(io.BytesIO(raw), name), FileSpec(name=name, **spec))


def read(content, name="ids", **spec):
    """Ids of the good lines, and (first, last, reason) of the bad ones."""
    entries = list(found(content, name, **spec).entries)
    bad = [(each.first, each.last, each.reason) for each in entries if isinstance(each, BadLine)]
    return [each.item_id for each in entries if isinstance(each, SyncLogEntry)], bad


TIMES = {"submitted_at_column": "at", "group_column": "col"}


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ("", []),
        ("\n\n", []),
        ("item_id\n", []),
        ("item_id\na\nb\n", ["a", "b"]),
        ("item_id\na\nb", ["a", "b"]),
        ("item_id\r\na\r\nb\r\n", ["a", "b"]),
        ("\ufeffitem_id,x\na,1\n", ["a"]),
        ("ITEM_ID,x\na,1\n", ["a"]),
        (" item_id , x\n a , 1\n", ["a"]),
        ("x;item_id\n1;a\n2;b\n", ["a", "b"]),
        ("x\titem_id\n1\ta\n", ["a"]),
        ("x|item_id\n1|a\n", ["a"]),
        ('"item_id","x"\n"a,b","1"\n', ["a,b"]),
        ('"item_id"\n"a"\n', ["a"]),
        ('item_id,title\na,"two\nlines"\nb,"say ""hi"""\n', ["a", "b"]),
        ("a\nb\n", ["a", "b"]),
        ("\n\na\nb\n", ["a", "b"]),
        ("id\na\n", ["a"]),
        ("Document-ID\na\n", ["a"]),
        ("7\n8\n", ["7", "8"]),
        ("item_id\na\n\n \nb\n\n", ["a", "b"]),
        ('{"item_id": "a"}\n{"item_id": 7, "x": [1]}\n', ["a", "7"]),
        ('"a"\n"b"\n', ["a", "b"]),
        ('\n{"item_id": "a"}\n\n{"item_id": "b"}\n\n', ["a", "b"]),
        ('{"item_id": " a "}\n', [" a "]),
        ('"item_id"\na\n', ["a"]),
        ('"broken\n', []),
    ],
    ids=repr,
)
def test_ids_are_read_from_common_forms_of_files(content, ids):
    assert read(content)[0] == ids


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("ids", {}, "csv"),
        ("x.csv", {}, "csv"),
        ("x.TSV", {}, "csv"),
        ("x.ndjson", {}, "jsonl"),
        ("x.jsonl", {}, "jsonl"),
        ("x.json", {}, "csv"),
        ("x.csv", {"format": "jsonl"}, "jsonl"),
        ("x.jsonl", {"format": "csv"}, "csv"),
    ],
    ids=str,
)
def test_the_format_is_given_or_follows_from_the_file_name(name, spec, expected):
    assert found("7\n", name, **spec).format == expected


def test_times_and_groups_are_read_only_from_named_columns():
    table = "item_id,at,col\na,2026-03-01 13:00,books\nb,1772366400,\nc,,\n"
    expected = [
        SyncLogEntry(item_id="a", submitted_at=NOON, group="books"),
        SyncLogEntry(item_id="b", submitted_at=NOON),
        SyncLogEntry(item_id="c"),
    ]
    assert list(found(table, zone=ZoneInfo("Europe/Paris"), **TIMES).entries) == expected
    assert list(found(table).entries) == [SyncLogEntry(item_id=item_id) for item_id in "abc"]
    rows = [
        {"item_id": "a", "at": "2026-03-01T12:00:00Z", "col": "books"},
        {"item_id": "b", "at": 1772366400, "col": None},
        {"item_id": "c", "at": "", "col": ""},
    ]
    assert list(found("\n".join(map(json.dumps, rows)), **TIMES).entries) == expected


@pytest.mark.parametrize(
    ("content", "bad"),
    [
        ("item_id,x\n,1\nb,2\n", (2, 2, "the id is blank")),
        ("item_id,x\n   ,1\nb,2\n", (2, 2, "the id is blank")),
        (f"item_id\n{'x' * 513}\nb\n", (2, 2, f'the id is longer than 512 characters: "{"x" * 40}…"')),
        ("item_id\na\0c\nb\n", (2, 2, 'the id contains a control character: "a\\x00c"')),
        ("item_id,x\n1,2,3\nb,2\n", (2, 2, "its number of fields is 3 instead of 2")),
        ("item_id,x\n1\nb,2\n", (2, 2, "its number of fields is 1 instead of 2")),
        ("a\nb,c\nd\n", (2, 2, "its number of fields is 2 instead of 1")),
        ('item_id,t\n"x\ny",2\nb,2\n', (2, 3, 'the id contains a control character: "x\\ny"')),
        ('item_id,t\n"x"y,2\nb,2\n', (2, 2, "it can't be read as CSV: ',' expected after '\"'")),
        (
            'item_id,t\na,1\nb,"2\nc,3\nd,4\n',
            (3, 5, "it can't be read as CSV: unexpected end of data (is a quote not closed?)"),
        ),
        ('{"item_id": "a"}\n{"item_id": \n', (2, 2, "it is not JSON (Input data was truncated)")),
        ('{"item_id": "a"}\n{"id": "b", "x": 1}\n', (2, 2, 'it has no "item_id"; its keys are "id", "x"')),
        ('{"item_id": "a"}\n{}\n', (2, 2, 'it has no "item_id"')),
        ('{"item_id": null}\n', (1, 1, 'the id is neither text nor a whole number: "None"')),
        ('{"item_id": true}\n', (1, 1, 'the id is neither text nor a whole number: "True"')),
        ('{"item_id": 1.5}\n', (1, 1, 'the id is neither text nor a whole number: "1.5"')),
        ('{"item_id": ""}\n', (1, 1, "the id is blank")),
        ('{"item_id": "a"}\n[1]\n', (2, 2, 'the id is neither text nor a whole number: "[1]"')),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_bad_line_is_reported_with_its_number_and_reason(content, bad):
    assert read(content)[1] == [bad]


def test_a_line_with_a_time_that_cannot_be_read_is_used_without_it():
    unread = SyncLogEntry(item_id="a", group="x", unreadable_time="yesterday")
    table = "item_id,at,col\na,yesterday,x\nb, ,\n"
    assert list(found(table, **TIMES).entries) == [unread, SyncLogEntry(item_id="b")]
    in_format = found("item_id,at\na,01.03.2026 12:00\n", submitted_at_column="at", time_format="%d.%m.%Y %H:%M")
    assert list(in_format.entries) == [SyncLogEntry(item_id="a", submitted_at=NOON)]


def test_uuids_in_other_forms_become_canonical_if_the_ids_are_uuids():
    uuid = "6c0d4c44-3f5e-4a39-a0cf-4b0a3b3f6a11"
    forms = [uuid, uuid.upper(), uuid.replace("-", ""), f"{{{uuid}}}", f"urn:uuid:{uuid}"]
    assert read("\n".join(["item_id", *forms, "other"]), uuid_ids=True)[0] == [uuid] * 5 + ["other"]
    assert read("\n".join(["item_id", *forms]))[0] == forms


def test_a_line_with_an_invalid_group_is_bad():
    ids, (bad,) = read('{"item_id": "a", "col": [1]}\n{"item_id": "b", "col": 7}\n', **TIMES)
    assert (ids, bad) == (["b"], (1, 1, 'the group is neither text nor a whole number: "[1]"'))


NO_COLUMN = "x: there is no column {}; the header has {}: set {}"
NOT_UTF_8 = "x: {}; save the file as UTF-8 and try again"
ALIKE = "x: {} columns are called {}; rename all but one"


@pytest.mark.parametrize(
    ("content", "spec", "sentence"),
    [
        ("id,name\na,1\n", {}, NO_COLUMN.format('"item_id"', '"id", "name"', "--id-column")),
        ("a\nb\n", {"id_column": "doc"}, NO_COLUMN.format('"doc"', '"a"', "--id-column")),
        ("item_id\na\n", {"group_column": "g"}, NO_COLUMN.format('"g"', '"item_id"', "--group-column")),
        ("item_id,ITEM_ID,Item_Id\n", {"id_column": "Item_ID"}, ALIKE.format(3, '"Item_ID"')),
        ("item_id,item_id\n", {}, ALIKE.format(2, '"item_id"')),
        ('item_id,"x\n', {}, "x: the header line can't be read as CSV (unexpected end of data); correct it"),
        ("[\n", {}, "x: it is a JSON array; write one object per line, as `jq -c '.[]'` does"),
        ("item_id\n".encode("utf-16"), {}, NOT_UTF_8.format("it looks like UTF-16")),
        ("item_id\n".encode("utf-16-le"), {}, NOT_UTF_8.format("it looks like UTF-16")),
        ("item_id\n\xe9\n".encode("latin-1"), {}, NOT_UTF_8.format("line 2 is not UTF-8")),
    ],
    ids=repr,
)
def test_an_unreadable_file_is_refused_in_one_sentence(content, spec, sentence):
    with pytest.raises(ConfigError) as refused:
        read(content, "x", **spec)
    assert str(refused.value) == sentence


def test_a_message_names_at_most_twenty_columns():
    with pytest.raises(ConfigError, match='"c19" and 10 more: set --id-column'):
        found(",".join(f"c{n}" for n in range(30)) + "\n")


def test_an_exact_name_wins_over_one_that_differs_in_case():
    assert read("ITEM_ID,item_id\na,b\n")[0] == ["b"]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("a\nb\n", "x: there is no header line; every line is read as an id, also the first"),
        ("doc_id\nb\n", 'x: ids are read from the only column, "doc_id"'),
    ],
)
def test_a_note_says_what_was_guessed(content, note):
    assert found(content, "x").notes == (note,)
    assert found("item_id\na\n", "x").notes == ()


@pytest.mark.parametrize(("start", "line"), [(b"", 1), (b"item_id\na\n", 3), (b'{"item_id": "a"}\n', 2)])
def test_a_line_too_long_for_memory_is_refused(start, line):
    with pytest.raises(ConfigError, match=f"line {line} is longer than 16777216 bytes; write one item per line"):
        read(start + b"y" * (MAX_LINE_BYTES + 2**21))


def test_a_field_longer_than_the_default_limit_of_python_is_read():
    ids, bad = read("item_id,content\na," + "x" * 200_000 + "\nb,1\n")
    assert (ids, bad) == (["a", "b"], [])
    ids, bad = read("item_id,content\na," + "x" * (2**20 + 1) + "\nb,1\n")
    assert (ids, bad) == (["b"], [(2, 2, "it can't be read as CSV: field larger than field limit (1048576)")])


def test_deeply_nested_json_is_a_bad_line():
    ids, bad = read('"a"\n' + "[" * 100_000 + "\n" + '"b"\n', format="jsonl")
    assert (ids, [each[:2] for each in bad]) == (["a", "b"], [(2, 2)])


class Broken(io.RawIOBase):
    """A file whose disk fails."""

    def readable(self):
        return True

    def readinto(self, _):
        raise OSError(5, "Input/output error")


def test_a_failing_disk_is_reported_in_one_sentence():
    with pytest.raises(
        ConfigError, match=r"^x: can't be read \(Input/output error\); check the disk or the pipe, and try again$"
    ):
        read_items(LineReader(io.BufferedReader(Broken()), "x"), FileSpec(name="x"))


IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(str.strip)


@given(ids=st.lists(IDS, min_size=1, max_size=20))
def test_json_lines_return_every_valid_id_unchanged(ids):
    content = "\n".join(json.dumps({"item_id": item_id}) for item_id in ids)
    assert read(content) == (ids, [])


@given(content=st.binary(max_size=200), name=st.sampled_from(["x", "x.csv", "x.jsonl"]))
def test_any_bytes_are_read_or_raise_a_config_error(content, name):
    try:
        ids, bad = read(content, name, **TIMES)
    except ConfigError:
        return
    assert all(ids)
    assert all(1 <= first <= last for first, last, _ in bad)


@pytest.mark.parametrize(
    ("content", "ids", "bad_lines"),
    [
        (" item_id \n---------\n doc-1\n doc-2\n(2 rows)\n\n", ["doc-1", "doc-2"], [2, 5]),
        (" item_id | at \n---------+----\n doc-1   | x\n(1 row)\n", ["doc-1"], [2, 4]),
        ("item_id\n-------\ndoc-1\n", ["doc-1"], [2]),
        ("| item_id | at |\n|---------|:--:|\n| doc-1 | x |\n", ["doc-1"], [2]),
        ("id\n----\n-1\n-\na--b\n", ["-1", "-", "a--b"], [2]),
        (" item_id \n---------\n doc-1\n(1 Zeile)\n", ["doc-1"], [2, 4]),
    ],
)
def test_lines_of_a_table_that_is_drawn_are_no_ids(content, ids, bad_lines):
    found_ids, bad = read(content)
    assert found_ids == ids
    assert [first for first, *_ in bad] == bad_lines
    assert all("psql --csv" in reason for *_, reason in bad)


@pytest.mark.parametrize(
    "content",
    [
        "item_id  uploaded_at\n-------  -----------\ndoc-1    2026-01-01\n",
        "+---------+\n| item_id |\n+---------+\n| doc-1   |\n+---------+\n",
        "┌─────────┐\n│ item_id │\n├─────────┤\n│ 'doc-1' │\n└─────────┘\n",
    ],
    ids=["sqlite3 -column", "sqlite3 -table", "sqlite3 -box"],
)
def test_a_drawn_table_whose_lines_would_be_ids_is_refused(content):
    with pytest.raises(ConfigError, match=r"drawn for people, not one id per line; export it with `psql --csv`"):
        read(content)
