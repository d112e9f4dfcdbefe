"""Small pieces of HTML that templates and charts share: times, and values in cells."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from markupsafe import Markup, escape

from monitor.database.text import escape_bidirectional
from monitor.notifications.messages import format_age
from monitor.reports.formatting import format_time

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(value: object) -> object:
    """A value of a template. Characters that reorder others, and control characters, are escaped as in Python."""
    if isinstance(value, Markup):
        return value if value.isascii() else Markup(escape_bidirectional(value))  # noqa: S704  # it was markup before
    return escape_bidirectional(_CONTROL.sub(_escaped, value)) if isinstance(value, str) else value


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def time_tag(at: datetime | None) -> Markup:
    """A moment as `<time>`: UTC as text, which the script shows in the viewer's zone. A dash for None."""
    if at is None:
        return Markup("–")
    utc = at.astimezone(UTC)
    text = f'<time datetime="{utc.isoformat(timespec="seconds")}">{format_time(utc)} UTC</time>'
    return Markup(text)  # noqa: S704  # digits only


def table_rows(rows: Iterable[Sequence[object]]) -> Markup:
    """The rows of a table, whose first cells are their headings. A cell may be text, a number, a time, None, or markup.

    A page has thousands of cells: in a template each takes four times as long.
    """
    return Markup("").join(_table_row(*row) for row in rows)


def _table_row(heading: object, *cells: object) -> Markup:
    others = "".join(
        f'<td class="number">{each}</td>' if is_number(each) else f"<td>{_cell(each)}</td>" for each in cells
    )
    return Markup(f'<tr><th scope="row">{_cell(heading)}</th>{others}</tr>\n')  # noqa: S704  # of escaped cells


def _cell(value: object) -> Markup:
    if value is None or isinstance(value, datetime):
        return time_tag(value)
    return escape(visible(value))


def coded(text: str) -> Markup:
    """A sentence in which what stands between two backticks is code."""
    first, *rest = (visible(part) for part in re.split(r"`([^`]*)`", text))
    found = Markup("{}").format(first)
    for code, after in zip(rest[::2], rest[1::2], strict=True):
        found += Markup("<code>{}</code>{}").format(code, after)
    return found


def segment(name: str) -> str:
    """A name as one segment of a path: percent-encoded, also `/`."""
    return quote(name, safe="")


def item_path(target: str, item_id: str) -> str:
    """The address of an item's page; browsers take the names `.` and `..` out of a path, also percent-encoded."""
    if {target, item_id} & {".", ".."}:
        return f"/items?{urlencode({'target': target, 'id': item_id})}"
    return f"/items/{segment(target)}/{segment(item_id)}"


def age(duration: timedelta | None) -> str:
    """A duration in its two largest units; a dash for None."""
    return "–" if duration is None else format_age(duration)


def is_number(value: object) -> bool:
    """Whether a cell is right-aligned."""
    return isinstance(value, int | float) and not isinstance(value, bool)
