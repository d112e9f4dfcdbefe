"""The night of `make drill`: what people are told in it is what docs/incidents.md shows, to the minute."""

from pathlib import Path

import drill
import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "incidents.md"


@pytest.mark.timeout(1200)  # four hundred runs
def test_a_night_of_faults_is_told_as_documented_without_a_storm_and_with_nothing_missing():
    drill_run, problems = drill.run_drill()
    assert problems == []
    (_, shown) = DOCUMENT.read_text(encoding="utf-8").split("<!-- drill -->\n```\n")
    assert drill.transcript(drill_run) == shown.partition("```")[0], "make docs"
