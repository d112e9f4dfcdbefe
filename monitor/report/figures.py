"""Numbers, shares, times and long names as people read them in a narrow column. Pure."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

__all__ = ["WIDTH", "figure", "latency", "plural", "right", "share", "shortened", "wrapped"]

WIDTH = 80
"""Characters of a line."""
_MILLION = 1_000_000


def figure(number: float) -> str:
    """A count in at most six characters: `999999`, `1.2M`, `350M`."""
    if number < _MILLION:
        return str(round(number))
    for size, name in ((_MILLION, "M"), (1000 * _MILLION, "G")):
        if number < 1000 * size:
            return f"{number / size:.1f}{name}" if number < 100 * size else f"{number / size:.0f}{name}"
    return f"{number:.0e}"


def share(part: float) -> str:
    """A share from 0 to 1 in percent, to one place and never rounded up to all or down to nothing: `99.9%`."""
    percent = round(part * 100, 1)
    if percent == 100 and part < 1:
        return "99.9%"
    if percent == 0 and part > 0:
        return "0.1%"
    return f"{percent:.1f}%" if percent % 1 else f"{percent:.0f}%"


def latency(ms: float) -> str:
    """Milliseconds as `80 ms` or `1.2 s`."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """`1 run`, `2 runs`; `nouns` where an s does not do."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"


def shortened(text: str, width: int, *, ellipsis: str = "…") -> str:
    """The text without its middle where it is longer than `width` (≥ 5): ids differ at both ends."""
    if len(text) <= width:
        return text
    kept = width - len(ellipsis)
    tail = kept // 2
    return text[: kept - tail] + ellipsis + text[len(text) - tail :]


def right(name: str, cells: Sequence[str]) -> tuple[str, list[str]]:
    """A column, heading and cells, with everything at its right edge."""
    width = max(len(name), *(len(cell) for cell in cells), 0)
    return name.rjust(width), [cell.rjust(width) for cell in cells]


def wrapped(text: str, *, indent: int, hang: int = 2) -> Iterator[str]:
    """A sentence as lines of at most 80 characters; all but the first stand `hang` further in than `indent`."""
    first, rest = " " * indent, " " * (indent + hang)
    yield from wrap(text, width=WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
