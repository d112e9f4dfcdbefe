"""Plays docs/quickstart.md command by command, like a new user."""

import re
from pathlib import Path

import pytest
from transcript import FOLDER, Reader, kept, renewed

DOCUMENT = Path(__file__).parents[2] / "docs/quickstart.md"


@pytest.mark.process
def test_the_quickstart_shows_what_its_commands_print():
    committed = DOCUMENT.read_text(encoding="utf-8")
    assert renewed(committed) == committed, "make docs"


def test_the_quickstart_has_every_step_of_a_new_user():
    commands = re.findall(r"^\$ ingestion-monitor ((?:\w+ ?)+)", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    way = [
        "sandbox",
        "init",
        "doctor",
        "items import",
        "check",
        "report",
        "items list",
        "incidents list",
        "items ignore",
    ]
    assert [next(step for step in way if name.startswith(step)) for name in commands] == [
        *way, "check", "incidents list"
    ]  # fmt: skip


TABLE = "AGE  GROUP\n3 s  letters\n"
SAID = "Run 1 ended 3 s ago,\n  2026-01-01 10:00 UTC.\n"


@pytest.mark.parametrize(
    ("printed", "committed"),
    [
        pytest.param("AGE  GROUP\n9 s  letters\n", TABLE, id="a duration"),
        pytest.param("AGE         GROUP\n1 min 12 s  letters\n", TABLE, id="a longer duration moves a column"),
        pytest.param("Run 1 ended 4 s ago,\n  2027-02-03 11:22 UTC.\n", SAID, id="a time"),
        pytest.param("On 2027-02-03\n  11:22 UTC.\n", "On 2026-01-01\n  10:00 UTC.\n", id="a time over two lines"),
        pytest.param("Run 1 ended 14 s\n  ago, 2026-01-01 10:00 UTC.\n", SAID, id="a longer one breaks a line"),
    ],
)
def test_values_that_differ_per_run_stay_as_committed(printed, committed):
    assert kept(printed, committed) == committed


@pytest.mark.parametrize(
    ("printed", "committed"),
    [
        pytest.param("AGE  GROUP\n3 s  notes\n", TABLE, id="a word"),
        pytest.param("AGE    GROUP\n3 s    letters\n", TABLE, id="the layout"),
        pytest.param(f"{TABLE}1 shown\n", TABLE, id="a line more"),
        pytest.param("AGE  GROUP\n", TABLE, id="a line less"),
        pytest.param("Run 2 ended 12 s ago,\n  2026-01-01 10:00 UTC.\n", SAID, id="a number beside a longer duration"),
        pytest.param(SAID, "", id="nothing was committed"),
        pytest.param("", SAID, id="nothing is printed"),
    ],
)
def test_other_differences_are_taken_from_the_run(printed, committed):
    assert kept(printed, committed) == printed


def test_lines_may_break_elsewhere_below_a_longer_path():
    assert kept(f"{FOLDER} is\n  a folder\n", f"{FOLDER}\n  is a folder\n", moved=True) == f"{FOLDER}\n  is a folder\n"


@pytest.fixture
def reader(tmp_path):
    return Reader(tmp_path, shown=["aaaaaaaa-0000-4000-8000-000000000001"], stack=None)


def test_printed_ids_replace_those_of_the_document(reader):
    ours, theirs = "bbbbbbbb-0000-4000-8000-000000000002", "aaaaaaaa-0000-4000-8000-000000000001"
    rewritten = reader.follow("console", None, f"$ echo {ours} | tee id.txt\n{theirs}\n$ grep -c {theirs} id.txt\n1\n")
    assert rewritten == f"$ echo {ours} | tee id.txt\n{theirs}\n$ grep -c {theirs} id.txt\n1\n"


def test_continued_commands_run_and_outputs_are_rewritten(reader):
    assert reader.follow("console", None, "$ echo \\\n> one\ntwo\n$ true\n") == "$ echo \\\n> one\none\n$ true\n"


def test_files_are_written_and_edited_as_documented(reader, tmp_path):
    reader.follow("ini", "a.ini", "x = 1\ny = 2\n")
    reader.follow("diff", "a.ini", "-x = 1\n+x = 3\n")
    assert (tmp_path / "a.ini").read_text() == "x = 3\ny = 2\n"


def test_an_edit_of_a_missing_line_is_refused(reader, tmp_path):
    reader.follow("ini", "a.ini", "max = 1\n")
    with pytest.raises(AssertionError, match="has no such line"):
        reader.follow("diff", "a.ini", "-x = 1\n+x = 3\n")


def test_a_failing_command_is_reported_with_its_output(reader):
    with pytest.raises(AssertionError, match="ended with 3:\noh"):
        reader.follow("console", None, "$ echo oh; exit 3\n")
