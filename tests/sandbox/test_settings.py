import pytest

from monitor.errors import ConfigError
from monitor.sandbox import SandboxSettings


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["item_seconds", "token_seconds", "cache_seconds", "delete_lag_seconds"])
def test_a_duration_that_is_not_a_number_is_refused_by_name(name, seconds):
    with pytest.raises(ConfigError, match=f"{name} must be a number of seconds, 0 or more"):
        SandboxSettings(**{name: seconds})


def test_all_invalid_settings_are_reported_at_once():
    with pytest.raises(ConfigError) as refused:
        SandboxSettings(item_seconds=-1, token_seconds=-1)
    assert len(refused.value.problems) == 2


def test_a_duration_of_zero_is_valid():
    assert SandboxSettings(item_seconds=0).item_seconds == 0
