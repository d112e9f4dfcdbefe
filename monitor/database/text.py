"""Makes text from outside safe for columns and terminals. Pure."""

import re

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (PostgreSQL rejects NUL) and lone surrogates (no encoding has them)."""


def to_column_text(value: str | None, width: int) -> str | None:
    """The text with such characters escaped as in Python, cut to `width` (> 0) characters."""
    if value is None or (len(value) <= width and value.isprintable()):
        return value  # fast path: this is called for each item of a run
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), value[:width])[:width]


def escape_unprintable(text: str) -> str:
    """The text with unprintable characters escaped as in Python."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


_BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Embeddings, overrides and isolates: they show what follows in another order than it is."""


def escape_bidirectional(text: str) -> str:
    """The text with characters that reorder others escaped, as JSON and Python escape them."""
    if text.isascii():
        return text  # known at once, while the search looks at each character of an answer of a megabyte
    return _BIDIRECTIONAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def to_single_line(text: str, width: int) -> str:
    """The text as one line of at most `width` (> 0) printable characters."""
    line = escape_unprintable(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"
