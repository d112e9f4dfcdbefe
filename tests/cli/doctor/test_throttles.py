from datetime import UTC, datetime, timedelta

import pytest

from monitor.cli.doctor import delivery
from monitor.cli.doctor.findings import Level
from monitor.cli.doctor.locations import SettingLocation
from monitor.model import LearnedLimits, Snapshot

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
AT = SettingLocation(setting="targets.gloo.check", where="monitor.toml, line 12")


def findings(learned):
    return list(delivery.check_throttles(learned, now=NOW, at=AT))


@pytest.mark.parametrize(
    "learned",
    [
        None,
        LearnedLimits(at=NOW),
        LearnedLimits(at=NOW - 2 * HOUR, not_before=NOW - HOUR, status=429, code="SLOW_DOWN"),
        LearnedLimits(at=NOW - HOUR, not_before=NOW, status=503),
        LearnedLimits(at=NOW, concurrency=1.0),
    ],
    ids=["never asked", "all is well", "a wait in the past", "a wait that ends now", "a concurrency limit"],
)
def test_limits_that_stop_nothing_have_no_finding(learned):
    assert findings(learned) == []


WAITS = {
    "limited": (429, None, "the API asked to wait (HTTP 429): runs send nothing until 2026-03-01 13:00:00 UTC."),
    "limited, with a code": (429, "SLOW_DOWN", "the API asked to wait (HTTP 429, code SLOW_DOWN): "),
    "busy": (503, None, "the API asked to wait (HTTP 503): "),
    "a very long code": (503, "X" * 200, f"the API asked to wait (HTTP 503, code {'X' * 60}): "),
    "an unknown status": (None, None, "the API asked to wait: "),
}


@pytest.mark.parametrize(("status", "code", "message"), WAITS.values(), ids=WAITS)
def test_a_retry_after_in_the_future_is_a_warning_with_its_time(status, code, message):
    (finding,) = findings(LearnedLimits(at=NOW, not_before=NOW + HOUR, status=status, code=code))

    assert (finding.part, finding.level) == ("retry-after", Level.WARNING)
    assert finding.message.startswith(message)
    assert "runs send nothing until " in finding.message


@pytest.mark.parametrize(("status", "setting"), [(429, AT.setting), (503, None)])
def test_only_a_rate_limit_has_a_setting_to_change(status, setting):
    (finding,) = findings(LearnedLimits(at=NOW, not_before=NOW + HOUR, status=status))

    assert (finding.setting, bool(finding.remedy)) == (setting, setting is not None)


def test_a_service_that_was_down_is_a_warning_with_what_the_next_run_does():
    (finding,) = findings(LearnedLimits(at=NOW - HOUR, down=True))

    assert (finding.part, finding.level, finding.setting) == ("breaker", Level.WARNING, None)
    assert finding.message == (
        "the API was down at the end of the last run (2026-03-01 11:00:00 UTC): "
        "the next run sends one request, and continues if it is answered."
    )


LAST_RUNS = {
    "slow because of it": (Snapshot(completed=140, requests=140, duration_s=57.0), Level.WARNING),
    "slow for another reason": (Snapshot(completed=14, requests=14, duration_s=57.0), Level.OK),
    "fast": (Snapshot(completed=4, requests=4, duration_s=1.6), Level.OK),
    "none yet": (None, Level.OK),
}


@pytest.mark.parametrize(("last", "level"), LAST_RUNS.values(), ids=LAST_RUNS)
def test_a_learned_rate_is_named_and_a_warning_if_it_made_the_last_run_slow(last, level):
    (finding,) = delivery.check_throttles(LearnedLimits(at=NOW, rate_per_s=2.5), now=NOW, at=AT, last=last)
    assert (finding.part, finding.level) == ("rate", level)
    assert "a rate of 2.5 requests/s" in finding.message
    assert ("took 57 s for 140 requests" in finding.message) is (level is Level.WARNING)
    assert "over clean runs" in finding.message + finding.remedy
