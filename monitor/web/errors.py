"""Answers to requests that are refused or that fail: a page for a browser, JSON for everything else."""

from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.requests import Request

from monitor.reports.html import Frame, render

_TITLES = {
    400: "Not understood",
    401: "Log in",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible",
    409: "Nothing was changed",
    413: "Too large",
    415: "Not understood",
    421: "Wrong address",
    429: "Too many attempts",
    500: "Internal error",
    503: "Not available",
}
TEXTS = {
    404: "there is no such page",
    405: "use GET or HEAD",
    413: "requests must have no body",
    500: "internal error; see the daemon's log",
}
"""What is said where nobody says more."""
USE_POST = "use POST, as the form on the page does"


def wants_html(request: Request) -> bool:
    """Whether a browser shows the answer to a person."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def bare_frame(request: Request, title: str) -> Frame:
    """The frame of a page that anybody may see."""
    return Frame(title=title, generated_at=datetime.now(UTC), path=request.url.path)


def refusal(
    request: Request, status: int, sentence: str, *, headers: Mapping[str, str] | None = None, reference: str = ""
) -> Response:
    """The answer to a request that is refused, as a page or as JSON. `reference` is in the log, too."""
    if not wants_html(request):
        content = {"error": sentence, **({"reference": reference} if reference else {})}
        return JSONResponse(content, status_code=status, headers=headers)
    frame = bare_frame(request, _TITLES.get(status, "Refused"))
    html = render("error.html", frame, sentence=as_sentence(sentence), reference=reference)
    return HTMLResponse(html, status_code=status, headers=headers)


def as_sentence(text: str) -> str:
    """A text of an error as a sentence on a page."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
