"""What the pages share: an HTML answer, the page of what does not exist, and filters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from monitor.database.text import UNPRINTABLE
from monitor.reports.html import render
from monitor.reports.names import unknown_target_sentence
from monitor.web.site import Site

_NO_STORE = {"Cache-Control": "no-store"}
_MAX_TEXT = 512
"""The longest id."""


async def html_page(
    site: Site,
    request: Request,
    template: str,
    title: str,
    *,
    status: int = 200,
    **values: Any,  # noqa: ANN401  # of a template
) -> Response:
    """A page, rendered in a thread. A value that is a function is called there."""
    frame = site.frame(request, title)

    def draw() -> str:
        found = {name: value() if callable(value) else value for name, value in values.items()}
        return render(template, frame, **found)

    html = await site.draw(draw)
    return HTMLResponse(html, status_code=status, headers=_NO_STORE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link with its text."""

    text: str
    href: str


async def missing_page(
    site: Site, request: Request, *, title: str, sentence: str, links: Sequence[Link] = (), hint: str = ""
) -> Response:
    """The page of what does not exist: a sentence, and links to what may have been meant. Its status is 404."""
    return await html_page(site, request, "missing.html", title, status=404, sentence=sentence, links=links, hint=hint)


async def unknown_target_page(site: Site, request: Request, name: str, *, instead: Link) -> Response:
    """The page of a target that is neither configured nor in the history; `instead` leads to what there is."""
    sentence = unknown_target_sentence(site.config, name)
    return await missing_page(site, request, title="Unknown target", sentence=sentence, links=[instead])


def choice(request: Request, name: str, offered: Iterable[str]) -> str:
    """One of the offered values of a query parameter; "" without it. Raises HTTPException for any other."""
    value = request.query_params.get(name, "")
    if value and value not in (known := list(offered)):
        raise HTTPException(400, f"{name} must be one of {', '.join(known)}")
    return value


def text(request: Request, name: str) -> str:
    """A query parameter as text; "" without it. Raises HTTPException for text that can't be stored."""
    value = request.query_params.get(name, "")
    if len(value) > _MAX_TEXT or UNPRINTABLE.search(value):
        raise HTTPException(400, f"{name} must be at most {_MAX_TEXT} printable characters")
    return value


def number(request: Request, name: str) -> int | None:
    """A query parameter as a number from 1 to 2⁶³ - 1; None without it. Raises HTTPException for anything else."""
    value = request.query_params.get(name, "")
    if not value:
        return None
    found = positive(value)
    if found is None:
        raise HTTPException(400, f"{name} must be a number from 1 on, such as ?{name}=2")
    return found


def positive(value: str) -> int | None:
    """The number from 1 to 2⁶³ - 1 that a text is; None if it is none."""
    found = int(value) if value.isascii() and value.isdecimal() and len(value) <= 19 else 0
    return found if 0 < found < 2**63 else None


def item_in_path(request: Request, prefix: bytes) -> tuple[str, str]:
    """The target and the id in the path of an item, which begins with `prefix`; empty if they are missing or no text.

    The path is taken as it was sent: decoded, a slash in a name would look like the one between them.
    """
    sent: bytes = request.scope.get("raw_path") or b""
    target, _, item_id = sent.partition(b"?")[0].removeprefix(prefix).partition(b"/")
    try:
        return unquote_to_bytes(target).decode(), unquote_to_bytes(item_id).decode()
    except UnicodeDecodeError:
        return "", ""
