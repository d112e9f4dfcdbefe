from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli.doctor import delivery
from monitor.cli.doctor.findings import Level
from monitor.cli.doctor.locations import SettingLocation
from monitor.model import LearnedLimits

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
AT = SettingLocation(setting="targets.gloo.check", where="monitor.toml, line 12")


def judged(learned):
    return list(delivery.check_throttles(learned, now=NOW, at=AT))


@pytest.mark.parametrize(
    "learned",
    [
        None,
        LearnedLimits(at=NOW),
        LearnedLimits(at=NOW - 2 * HOUR, not_before=NOW - HOUR, status=429, code="SLOW_DOWN"),
        LearnedLimits(at=NOW - HOUR, not_before=NOW, status=503),
        LearnedLimits(at=NOW, rate_per_s=1.0, concurrency=1.0),
    ],
    ids=["never asked", "all is well", "a hint that is past", "a hint that ends now", "a limit that was met"],
)
def test_what_holds_nobody_back_is_not_told(learned):
    assert judged(learned) == []


HELD = {
    "limited": (429, None, "the API said (HTTP 429) to come back at 2026-03-01 13:00:00 UTC: until then"),
    "limited, with a code": (429, "SLOW_DOWN", "the API said (HTTP 429, code SLOW_DOWN) to come back at "),
    "busy": (503, None, "the API said (HTTP 503) to come back at "),
    "a code that never ends": (503, "X" * 200, f"the API said (HTTP 503, code {'X' * 60}) to come back at "),
    "by a status that is not known": (None, None, "the API said to come back at "),
}


@pytest.mark.parametrize(("status", "code", "message"), HELD.values(), ids=HELD)
def test_a_hint_that_lies_ahead_is_a_warning_with_its_instant(status, code, message):
    (finding,) = judged(LearnedLimits(at=NOW, not_before=NOW + HOUR, status=status, code=code))

    assert (finding.part, finding.level) == ("hint", Level.WARNING)
    assert finding.message.startswith(message)
    assert finding.message.endswith("until then runs send nothing.")


@pytest.mark.parametrize(("status", "setting"), [(429, AT.setting), (503, None)])
def test_only_a_limit_is_ours_to_mend(status, setting):
    (finding,) = judged(LearnedLimits(at=NOW, not_before=NOW + HOUR, status=status))

    assert (finding.setting, bool(finding.remedy)) == (setting, setting is not None)


def test_a_service_that_was_down_is_a_warning_with_what_the_next_run_does():
    (finding,) = judged(LearnedLimits(at=NOW - HOUR, down=True))

    assert (finding.part, finding.level, finding.setting) == ("breaker", Level.WARNING, None)
    assert finding.message == (
        "the API was down at the end of the last run (2026-03-01 11:00:00 UTC): the next begins with one request, and "
        "goes on if that is answered."
    )
