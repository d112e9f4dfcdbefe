"""Candidate rules from a file: the configuration with them, or every problem with its key and line."""

from datetime import timedelta

import pytest

from monitor.config import load_config
from monitor.config.candidate import load_candidate
from monitor.errors import ConfigError
from monitor.model import Cause

BASE = """
database = "sqlite:///never-opened.db"
[[targets]]
name = "gloo"
provider = "gloo"
publisher_id = "p"
auth = { api_key = "canary-secret" }
[[channels]]
name = "oncall"
type = "log"
[[rules]]
cause = "unauthorized"
runs = 1
[[routes]]
channels = ["oncall"]
"""


@pytest.fixture
def read(tmp_path):
    """The configuration with candidates; ConfigError as `load_candidate` raises it."""
    (tmp_path / "monitor.toml").write_text(BASE, encoding="utf-8")

    def read(text):
        path = tmp_path / "new.toml"
        path.write_text(text, encoding="utf-8")
        return load_candidate(
            path, lambda settings: load_config(tmp_path / "monitor.toml", environ={}, overrides=settings)
        )

    return read


def problems(read, text):
    with pytest.raises(ConfigError) as raised:
        read(text)
    return [problem.rpartition("/")[2] for problem in raised.value.problems]


def test_the_rules_of_the_file_stand_in_for_those_of_the_configuration(read):
    config = read('[[rules]]\ncause = "outage"\nfor = "10m"\n')
    assert [(rule.cause, rule.hold_for) for rule in config.rules] == [(Cause.OUTAGE, timedelta(minutes=10))]
    assert [route.channels for route in config.routes] == [("oncall",)], "the kind that is not in the file stays"


def test_routes_can_be_tried_alone(read):
    config = read('[[routes]]\nmatch = { severity = "critical" }\nchannels = ["oncall"]\n')
    assert [rule.cause for rule in config.rules] == [Cause.UNAUTHORIZED]
    assert dict(config.routes[0].match) == {"severity": ("critical",)}


WRONG = """\
# stricter
[[rules]]
cause = "outage"
runs = 5
of = 3

[[rules]]
cause = "outrage"

[[routes]]
match = { team = "pipelin" }
channels = ["pager"]

[[ rules ]]
runs = "many"

[targets]
name = "x"
"""


def test_all_problems_are_listed_at_once_with_key_and_line(read):
    found = problems(read, WRONG)
    assert found[0].startswith("new.toml, line 17: targets is not for candidate rules")
    by_line = {text.partition(":")[0]: text for text in found}
    assert "rules[0].of is smaller than runs" in by_line["new.toml, line 5"]
    assert 'did you mean "outage"?' in by_line["new.toml, line 8"]
    assert "routes[0].match.team" in by_line["new.toml, line 11"]
    assert "routes[0].channels[0] names" in by_line["new.toml, line 12"]
    assert "rules[2].cause is missing" in by_line["new.toml, line 14"]
    assert "rules[2].runs must be a whole number" in by_line["new.toml, line 15"]
    assert len(found) == 7


def test_a_rule_that_can_never_open_an_incident_is_refused(read):
    (found,) = problems(read, '[[rules]]\ncause = "outage"\nfor = "2h"\n')
    assert found.startswith("new.toml, line 3: rules[0].for is longer than window (1h, built in)")


def test_a_key_whose_line_is_not_found_has_none(read):
    (found,) = problems(read, 'rules = [{ cause = "outrage" }]\n')
    assert found.startswith("new.toml: rules[0].cause")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has neither [[rules]] nor [[routes]]"),
        ("[[rules]\n", "is not valid TOML at line 1"),
        ('rules = "outage"\n', "rules must be a list"),
    ],
)
def test_a_file_without_usable_tables_is_refused(read, text, sentence):
    (found,) = problems(read, text)
    assert sentence in found
    assert "canary-secret" not in found


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="can't be read") as raised:
        load_candidate(tmp_path / "none.toml", lambda _: load_config())
    assert len(raised.value.problems) == 1
