"""The messages of `make drill` are those in docs/incidents.md, to the minute."""

from pathlib import Path

import drill
import pytest

pytestmark = [pytest.mark.process, pytest.mark.nightly]

DOCUMENT = Path(__file__).parents[2] / "docs" / "incidents.md"


@pytest.mark.timeout(1200)  # four hundred runs
def test_a_night_of_faults_sends_the_documented_messages_and_no_more():
    drill_run, problems = drill.run_drill()
    assert problems == []
    (_, shown) = DOCUMENT.read_text(encoding="utf-8").split("<!-- drill -->\n```\n")
    assert drill.transcript(drill_run) == shown.partition("```")[0], "make docs"
