from datetime import timedelta

import pytest
from support.samples import NOW

from monitor.cli.doctor.delivery import check_silences
from monitor.cli.doctor.findings import Level
from monitor.model import Silence

DAY = timedelta(days=1)
CASES = [
    ("a narrow, short one", {"cause": ("outage",)}, 0, 7, None),
    ("a long one", {"cause": ("outage",)}, 0, 8, "silence 3 (cause=outage, by ana) lasts 8 d: "),
    ("everything", {"target": ("*",)}, 0, 1, "silence 3 (target=*, by ana) matches everything: "),
    ("both", {"target": ("*",), "cause": ("x", "*")}, 1, 9, "matches everything and lasts 8 d: "),
    ("one that is over", {"target": ("*",)}, -9, 0, None),
]


@pytest.mark.parametrize(("matchers", "start", "end", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_long_and_general_silences_are_warnings_with_the_command_to_expire_them(matchers, start, end, message):
    silence = Silence(id=3, matchers=matchers, starts_at=NOW + start * DAY, ends_at=NOW + end * DAY, author="ana")
    found = list(check_silences([silence], now=NOW, option=" --config other.toml"))
    if message is None:
        assert found == []
    else:
        (finding,) = found
        assert message in finding.message
        assert (finding.level, finding.command) == (
            Level.WARNING, "ingestion-monitor silences expire 3 --config other.toml"
        )  # fmt: skip
