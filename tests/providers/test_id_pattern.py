import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.providers.id_pattern import compile_id_pattern

BACKTRACKING = [r"(a+)+b", r"(a|a)*b", r"(a|aa)+$b", r"([a-z]+)*[0-9]", r"(.*a){12}b", r"(?:(?:a?){200}a{200})b"]


@pytest.mark.parametrize("pattern", BACKTRACKING)
def test_a_pattern_that_backtracks_elsewhere_is_decided_at_once(pattern):
    assert not compile_id_pattern(pattern)("a" * 512)


@given(st.text(alphabet="doc_0189af-\n é", max_size=40))
def test_usual_patterns_mean_the_same_as_in_python(item_id):
    for pattern in (
        r"doc_[0-9a-f]{2,32}",
        r"[^/\n]+",
        r"(?i:DOC)_\d+",
        "d|do|doc",
        r"[0-9a-fA-F]{4}(-[0-9a-fA-F]{2}){1,3}",
        "",
    ):
        assert compile_id_pattern(pattern)(item_id) == (re.fullmatch(pattern, item_id) is not None)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("[", "must be a valid regular expression"),
        ("a)(b", "must be a valid regular expression"),
        (r"(?=x).*", "must do without look-around and back-references"),
        (r"(?<!x)a", "must do without look-around and back-references"),
        (r"(a)\1", "must do without look-around and back-references"),
        (r"\w{1,512}", r"must be smaller: name the characters that are counted, as in [A-Za-z0-9_]{1,200}"),
    ],
)
def test_a_pattern_that_can_not_be_used_is_refused_with_a_remedy(pattern, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        compile_id_pattern(pattern)


def test_half_a_character_matches_nothing():
    assert not compile_id_pattern(".*")("\ud83d")
