from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.config.unreachable import representatives

PATTERN = st.text("ab*?[]!-", max_size=7)


def matched(text, patterns):
    return frozenset(pattern for pattern in patterns if fnmatchcase(text, pattern))


TOLD_APART = [
    ("nothing to tell apart", [], [set()]),
    ("one name", ["prod"], [set(), {"prod"}]),
    ("a star takes all", ["*"], [{"*"}]),
    ("a name within a pattern", ["prod", "prod*"], [set(), {"prod*"}, {"prod", "prod*"}]),
    ("all that a pattern takes is named besides", ["[ab]", "a", "b"], [set(), {"[ab]", "a"}, {"[ab]", "b"}]),
    ("a set that is none", ["[a"], [set(), {"[a"}]),
    ("a set that takes nothing", ["[b-a]"], [set()]),
    ("a set with its own bracket", ["[]]"], [set(), {"[]]"}]),
    ("not", ["[!a]", "a"], [set(), {"[!a]"}, {"a"}]),
    ("length", ["??", "a*"], [set(), {"??"}, {"a*"}, {"??", "a*"}]),
]


@pytest.mark.parametrize(("patterns", "ways"), [t[1:] for t in TOLD_APART], ids=[t[0] for t in TOLD_APART])
def test_there_is_a_text_for_each_way_to_match(patterns, ways):
    found = representatives(patterns)
    assert sorted(map(sorted, (matched(text, patterns) for text in found))) == sorted(map(sorted, ways))


@given(st.lists(PATTERN, max_size=4), st.text("ab*?[]!-cé", min_size=1, max_size=6))
@example(["[]", "[!]"], "[]")
@example(["[a-]"], "-")
def test_no_text_matches_in_a_way_that_none_of_them_does(patterns, text):
    ways = {matched(each, patterns) for each in representatives(patterns)}
    assert matched(text, patterns) in ways


@given(st.lists(PATTERN, max_size=4))
def test_each_way_has_one_text_that_a_name_can_be(patterns):
    texts = representatives(patterns)
    assert len({matched(text, patterns) for text in texts}) == len(texts)
    assert all(text.isprintable() and text for text in texts)


def test_a_name_is_no_blank_where_that_can_be_helped():
    assert [text.isspace() for text in representatives(["a", "b"])] == [False, False, False]
    assert " " in representatives([" "])


def test_patterns_that_can_t_be_told_apart_in_time_are_given_up():
    assert representatives(["*a*", "*b*", "*c*"], most=3) is None
    assert len(representatives(["*a*", "*b*", "*c*"])) == 8
