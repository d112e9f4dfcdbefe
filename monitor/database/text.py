"""Text from outside, made fit for a column: what PostgreSQL refuses is spelled out, what is too long is cut. Pure."""

import re

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (PostgreSQL refuses NUL, the rest garble terminals) and lone surrogates (no encoding has them)."""


def to_column_text(value: str | None, width: int) -> str | None:
    """The text with such characters escaped as Python spells them, cut to `width` (> 0) characters."""
    if value is None or (len(value) <= width and value.isprintable()):
        return value  # most are, and this is asked for each item of a run
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), value[:width])[:width]


def escape_unprintable(text: str) -> str:
    """The text for people: what would garble a terminal is escaped as Python spells it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def to_single_line(text: str, width: int) -> str:
    """What a person wrote, as one line of at most `width` (> 0) printable characters."""
    line = escape_unprintable(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"
