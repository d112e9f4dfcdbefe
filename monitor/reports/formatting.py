"""Formats tables, numbers, times, and long ids for text output, and dataclasses for JSON. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from textwrap import wrap
from typing import Any

import msgspec


def align(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with columns as wide as their widest cell. Numbers are right-aligned; None becomes a dash."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[n]) for row in cells), 0) for n, name in enumerate(heading)]
    right_aligned = [
        bool(rows) and all(isinstance(row[n], int | float | None) for row in rows) for n in range(len(heading))
    ]
    lines = [heading, *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if align_right else cell.ljust(width)
            for cell, width, align_right in zip(line, widths, right_aligned, strict=True)
        ).rstrip()
        for line in lines
    )


_NARROWEST_NOTE = 20


def fit(
    columns: Mapping[str, Sequence[object]],
    *,
    width: int | None,
    shorten: Mapping[str, int] | None = None,
    optional: Sequence[str] = (),
) -> str:
    """A table in at most `width` characters (None: as wide as it is), if it can be made to fit.

    Cells of the columns in `shorten` lose their end, down to the width given there; then columns of `optional` are left
    out, first those named first, and a line below says which. All other columns, such as ids, stay whole.
    """
    shown, left_out = dict(columns), list[str]()
    narrowed = _narrowed(shown, width, shorten or {})
    for name in optional:
        if width is None or _width(narrowed) <= width:
            break
        if shown.pop(name, None) is not None:
            left_out.append(name)
            narrowed = _narrowed(shown, width, shorten or {})
    table = align(tuple(narrowed), tuple(zip(*narrowed.values(), strict=True)))
    if not left_out:
        return table
    note = f"Left out for this width: {', '.join(left_out)}"
    return "\n".join([table, *wrap(note, max(width or 0, _NARROWEST_NOTE), subsequent_indent="  ")])


def _width(columns: Mapping[str, Sequence[object]]) -> int:
    return sum(_widths(columns).values()) + 2 * (len(columns) - 1)


def _widths(columns: Mapping[str, Sequence[object]]) -> dict[str, int]:
    return {
        name: max(len(name), *(len("-" if cell is None else str(cell)) for cell in cells), 0)
        for name, cells in columns.items()
    }


def _narrowed(
    columns: Mapping[str, Sequence[object]], width: int | None, shorten: Mapping[str, int]
) -> dict[str, Sequence[object]]:
    """The columns, of which those in `shorten` are narrowed, the widest first, until a line fits."""
    widths = _widths(columns)
    over = 0 if width is None else _width(columns) - width
    least = {name: max(minimum, len(name)) for name, minimum in shorten.items() if name in columns}
    while over > 0 and (name := max(least, key=lambda each: widths[each] - least[each], default="")):
        if widths[name] <= least[name]:
            break
        widths[name] -= 1
        over -= 1
    return {
        name: [_shorten_end(cell, widths[name]) for cell in cells] if name in least else cells
        for name, cells in columns.items()
    }


def _shorten_end(cell: object, width: int) -> object:
    return f"{cell[: width - 1]}…" if isinstance(cell, str) and len(cell) > width else cell


COUNTED_ROWS = 1_000
"""Lists that grow with the history are counted up to this number: a year of one-minute runs has half a million."""


def count_limit(limit: int) -> int:
    """Up to which number to count the rows of a list that shows at most `limit` (> 0)."""
    return max(COUNTED_ROWS, limit + 1)


def counted_list(name: str, rows: Sequence[Any], *, total: int) -> dict[str, Any]:
    """`cut_list` of rows that were counted up to `count_limit`, and whether there may be more than `total`."""
    return {"total_is_minimum": _is_minimum(len(rows), total), **cut_list(name, rows, total=total)}


def with_rest(table: str, *, shown: int, total: int | None) -> str:
    """A table of the first rows, with a line for the rest that were counted up to `count_limit`; None: not counted."""
    if total is None or total <= shown:
        return table
    if _is_minimum(shown, total):
        return f"{table}\nand {total - shown} or more: --limit N shows N"
    return f"{table}\nand {total - shown} more: --limit {total} shows all"


def _is_minimum(shown: int, total: int) -> bool:
    return total > shown and total >= COUNTED_ROWS


def cut_list(name: str, rows: Sequence[Any], *, total: int | None = None) -> dict[str, Any]:
    """A list for JSON: how many there are, how many are shown, and these, under `name`."""
    return {"total": len(rows) if total is None else total, "shown": len(rows), name: list(rows)}


def format_time(at: datetime | None) -> str:
    """A UTC time to the second, or a dash."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "-"


def iso(at: datetime | None) -> str | None:
    """A time for JSON: ISO 8601, or null."""
    return at.isoformat() if at else None


def json_values(value: Any) -> Any:  # noqa: ANN401  # JSON
    """Dataclasses, structs and collections of them as JSON values: enums by value, times as ISO 8601.

    msgspec would write times with `Z`, and refuses read-only mappings.
    """
    if isinstance(value, msgspec.Struct):
        return {name: json_values(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value):
        return {each.name: json_values(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {json_values(key): json_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value


WIDTH = 80
"""Maximum length of a line of prose; only an id may make it longer."""
_MILLION = 1_000_000


def format_count(number: float) -> str:
    """A count in at most six characters: `999999`, `1.2M`, `350M`."""
    if number < _MILLION:
        return str(round(number))
    for size, name in ((_MILLION, "M"), (1000 * _MILLION, "G")):
        if number < 1000 * size:
            return f"{number / size:.1f}{name}" if number < 100 * size else f"{number / size:.0f}{name}"
    return f"{number:.0e}"


def format_share(part: float) -> str:
    """A share (0 to 1) in percent with one decimal: `99.9%`. Only 1 becomes `100%`, only 0 becomes `0%`."""
    percent = round(part * 100, 1)
    if percent == 100 and part < 1:
        return "99.9%"
    if percent == 0 and part > 0:
        return "0.1%"
    return f"{percent:.1f}%" if percent % 1 else f"{percent:.0f}%"


def format_latency(ms: float) -> str:
    """Milliseconds as `80 ms` or `1.2 s`."""
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """`1 run`, `2 runs`; `nouns` for an irregular plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"


def shorten_middle(text: str, width: int, *, ellipsis: str = "…") -> str:
    """Cuts the middle out of a text longer than `width` (≥ 5): ids differ at both ends."""
    if len(text) <= width:
        return text
    kept = width - len(ellipsis)
    tail = kept // 2
    return text[: kept - tail] + ellipsis + text[len(text) - tail :]


def right_aligned(name: str, cells: Sequence[str]) -> tuple[str, list[str]]:
    """A column, heading and cells, right-aligned."""
    width = max(len(name), *(len(cell) for cell in cells), 0)
    return name.rjust(width), [cell.rjust(width) for cell in cells]


def wrap_lines(text: str, *, indent: int, hang: int = 2) -> Iterator[str]:
    """Wraps a sentence at 80 characters, but breaks no word, as it may be an id; all lines but the first are indented
    by `hang` more.
    """
    first, rest = " " * indent, " " * (indent + hang)
    lines = wrap(
        text, width=WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )
    yield from lines


MAX_SPANS = 36
"""Most spans of a period: what fits into a line of 80 characters."""

_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_SPAN_LENGTHS = (
    *(n * _MINUTE for n in (2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 4, 6, 12)),
    *(n * _DAY for n in (1, 2, 3, 5, 7, 10, 14, 30, 60, 90, 120)),
)


def span_length(period: timedelta) -> timedelta:
    """Length of the spans of a period: the shortest that gives at most `MAX_SPANS`."""
    return next((each for each in _SPAN_LENGTHS if each * MAX_SPANS >= period), period / MAX_SPANS)


def spans(start: datetime, end: datetime) -> list[datetime]:
    """Bounds of the spans of a period, oldest first. All are equally long; the first may be shorter."""
    step = span_length(end - start)
    bounds = [end]
    while bounds[-1] - step > start:
        bounds.append(bounds[-1] - step)
    return [start, *reversed(bounds)]
