import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import incident

from monitor.incidents.silences import (
    format_matchers,
    matchers_for,
    matches_everything,
    parse_matchers,
    validate_matchers,
)
from monitor.notifications.routing import attributes_of, escape_glob, matches


def test_patterns_of_one_attribute_are_alternatives():
    asked = parse_matchers(["cause=outage", " target = gloo-* ", "cause=items_*"])
    assert asked == {"cause": ("outage", "items_*"), "target": ("gloo-*",)}
    assert format_matchers(asked) == "cause=outage|items_* target=gloo-*"
    assert validate_matchers(asked) == []


MISTAKES = [
    ("no attribute", ["outage"], "there is no attribute 'outage'; write ATTRIBUTE=PATTERN with one of team, cause"),
    ("an unknown one", ["tagret=x"], "there is no attribute 'tagret'"),
    ("no pattern", ["target="], "target needs a pattern of 1 to 200 printable characters, as in target=a*"),
    ("a long one", ["target=" + "x" * 201], "target needs a pattern"),
    ("an odd one", ["group=a\x07"], "group needs a pattern"),
    ("a slip in a cause", ["cause=outtage"], "there is no cause like outtage; choose from spending_limit, "),
    ("an old name of a cause", ["cause=coverage"], "cause coverage is now called too_many_unknown: rename it"),
    ("case counts", ["severity=CRITICAL"], "there is no severity like CRITICAL; choose from info, warning, critical"),
    ("a slip in a team", ["team=ops"], "there is no team like ops"),
]


@pytest.mark.parametrize(("asked", "said"), [each[1:] for each in MISTAKES], ids=[each[0] for each in MISTAKES])
def test_matchers_that_can_match_nothing_are_a_problem(asked, said):
    (mistake,) = validate_matchers(parse_matchers(asked))
    assert mistake.startswith(said)


@pytest.mark.parametrize(
    ("asked", "everything"),
    [(["target=*"], True), (["target=x", "target=**", "cause=*"], True), (["target=*", "cause=outage"], False)],
)
def test_which_matchers_match_everything(asked, everything):
    assert matches_everything(parse_matchers(asked)) is everything


@given(st.text("ab*?[]!-", min_size=1), st.text("ab*?[]!-"))
def test_the_matchers_of_an_incident_match_only_its_key(group, other):
    (own,) = matchers_for([incident(group=group)])
    assert matches(own, attributes_of(incident(group=group, id=9)))
    assert matches(own, attributes_of(incident(group=other))) is (other == group)
    assert not matches(own, attributes_of(incident(group=group, target="gloo-prod2")))
    assert escape_glob("plain") == "plain"


def test_the_matchers_of_an_incident_without_a_group_ignore_its_items_groups():
    (own,) = matchers_for([incident()])
    assert matches(own, attributes_of(incident(groups=("songs",))))
