"""Plays each row of the table of faults in docs/client.md."""

import re
from pathlib import Path

import pytest
from faults_table import BEGIN, CASES, END, committed, play, renewed

from monitor.sandbox.faults import PRESETS
from monitor.sandbox.responses import BY_STATUS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
AGAIN = "make docs"
CHANCE = 4
"""How many of the first five calls may or may not be in flight when the first answer arrives."""


def cells(line):
    """Fault, output and exit code; and the number of requests of each run."""
    fault, printed, code, *sent = line.strip("| ").split(" | ")
    return (fault, printed, code), [sum(map(int, re.findall(r"\d+", each))) for each in sent]


def near(now, once):
    # the number of requests in flight when a hint arrives varies
    return abs(now - once) <= (CHANCE if min(now, once) else 0)


@pytest.mark.process
@pytest.mark.timeout(600)
def test_the_table_matches_output_messages_and_exit_codes_of_check():
    """One test: each process that has a row of it would play all faults."""
    played = {cells(row)[0][0]: cells(row) for row in play()}
    differing = {}
    for said, sent in map(cells, committed(DOCUMENT)):
        said_now, sent_now = played[said[0]]
        if said_now != said or not all(near(now, once) for now, once in zip(sent_now, sent, strict=True)):
            differing[said[0]] = (said, said_now, sent, sent_now)
    assert differing == {}, AGAIN


def test_the_table_has_each_fault_once_and_no_other():
    faults = [cells(row)[0][0] for row in committed(DOCUMENT)]
    assert faults == [case.name for case in CASES], AGAIN
    assert {re.split("[:`]", name)[1] for name in faults if name.startswith("`")} >= {*PRESETS, *map(str, BY_STATUS)}


def test_only_the_text_between_the_marks_is_replaced():
    made = renewed(f"before {BEGIN} old {END} after", ["| a | b | 0 | 1 | 1 |"])
    assert made.startswith(f"before {BEGIN}\n")
    assert made.endswith(f"\n{END} after")
    assert committed(made) == ["| a | b | 0 | 1 | 1 |"]


def test_a_document_without_the_marks_is_refused():
    with pytest.raises(SystemExit, match="there is no <!-- faults -->"):
        renewed(f"{END}{BEGIN}", [])
