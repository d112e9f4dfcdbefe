import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.database.text import UNPRINTABLE, to_column_text


@pytest.mark.parametrize(
    ("value", "width", "stored"),
    [
        (None, 5, None),
        ("", 5, ""),
        ("日本語", 5, "日本語"),
        ("abcdef", 5, "abcde"),
        ("a\x00b", 9, r"a\x00b"),
        ("a\r\nb", 9, r"a\r\nb"),
        ("\ud800", 9, r"\ud800"),
        ("\x00\x00", 5, r"\x00" + "\\"),
    ],
)
def test_text_is_cut_and_unstorable_characters_are_escaped(value, width, stored):
    assert to_column_text(value, width) == stored


@given(value=st.text(st.characters(), max_size=40), width=st.integers(1, 50))
def test_any_text_is_adapted_and_adapting_again_changes_nothing(value, width):
    stored = to_column_text(value, width)
    assert len(stored) <= width
    assert not UNPRINTABLE.search(stored)
    assert stored.encode().decode() == stored
    assert to_column_text(stored, width) == stored
