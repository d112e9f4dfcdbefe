"""Small pieces of HTML."""

import pytest

from monitor.reports.html.marks import coded

SCRIPT = "<script>"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("the log", "the log"),
        ("see `slo`", "see <code>slo</code>"),
        ("`a` and `b`: both", "<code>a</code> and <code>b</code>: both"),
        ("one ` alone", "one ` alone"),
        (f"{SCRIPT} `{SCRIPT}`", "&lt;script&gt; <code>&lt;script&gt;</code>"),
        ("a\u202eb `\x07`", "a\\u202eb <code>\\x07</code>"),
    ],
)
def test_what_stands_between_backticks_is_code_and_all_else_stays_text(text, html):
    assert coded(text) == html
