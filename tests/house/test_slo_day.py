"""The day in docs/slo.md is what the product says, to the minute."""

from pathlib import Path

import pytest
import slo_day

pytestmark = [pytest.mark.process, pytest.mark.nightly]

DOCUMENT = Path(__file__).parents[2] / "docs" / "slo.md"


@pytest.mark.timeout(600)  # sixty runs, and the uploads of four weeks
def test_a_day_on_which_indexing_slows_is_as_documented():
    (_, shown) = DOCUMENT.read_text(encoding="utf-8").split("<!-- slo day -->\n```\n")
    assert slo_day.transcript(slo_day.run_day()) == shown.partition("```")[0], "make docs"
