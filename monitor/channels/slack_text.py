"""Text made fit for Slack: escaped, within a limit, and calling nobody. Pure."""

from collections.abc import Mapping
from itertools import accumulate

__all__ = ["calling_nobody", "fitted"]

_ESCAPES: Mapping[str, str] = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""The three that Slack wants escaped; `<` would begin a mention (`<!channel>`, `<@U…>`) or a link."""

_CUT = "…"
_ZERO_WIDTH_SPACE = "\u200b"


def calling_nobody(text: str) -> str:
    """The text with every `@` split from what it might call: Slack needs `<!here>`, its look-alikes take `@here`."""
    return text.replace("@", f"@{_ZERO_WIDTH_SPACE}")


def fitted(text: str, limit: int) -> str:
    """The text escaped for Slack, and cut with an ellipsis where it would be longer.

    Args:
        text: without control characters but for line breaks.
        limit: the most characters (> 0), escapes included; those beyond the basic plane count twice, as in JavaScript.
    """
    pieces = [_ESCAPES.get(each, each) for each in text[: limit + 1]]
    if sum(map(_length, pieces)) <= limit:
        return "".join(pieces)
    ends = accumulate(map(_length, pieces))
    return "".join(piece for piece, end in zip(pieces, ends, strict=True) if end <= limit - len(_CUT)) + _CUT


def _length(piece: str) -> int:
    return len(piece.encode("utf-16-le")) // 2
