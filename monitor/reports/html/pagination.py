"""Pages of a list: which rows a page has, and the links to the pages beside it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from monitor.reports.formatting import plural


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Links to the pages beside one page of a list; None at its ends."""

    text: str
    """Which rows are shown."""
    previous: str | None = None
    next: str | None = None


def numbered_page(
    number: int, *, size: int, total: int, noun: str, path: str, query: Mapping[str, str] | None = None
) -> Page:
    """The page `number` (from 1) of `total` rows, `size` on each; `path` and `query` are those of the list."""
    last = max(1, -(-total // size))

    def link(to: int) -> str:
        return address(path, {**(query or {}), **({"page": str(to)} if to > 1 else {})})

    first = (number - 1) * size + 1
    return Page(
        text=f"{first}–{min(number * size, total)} of {plural(total, noun)}",
        previous=link(number - 1) if number > 1 else None,
        next=link(number + 1) if number < last else None,
    )


def address(path: str, query: Mapping[str, str | None]) -> str:
    """A path with a query string, without what is None or empty; an empty path is that of the page with the link."""
    found = urlencode({name: value for name, value in query.items() if value})
    return f"{path}?{found}" if found or not path else path
