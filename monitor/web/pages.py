"""The HTML pages for people: overview, targets, incidents, items, and the files that they load."""

from datetime import timedelta

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from monitor.reports.build import build_report
from monitor.reports.html import plotly_script, render, static_file
from monitor.web.site import Site

_METHODS = ["GET", "HEAD"]


def add_pages(app: FastAPI, site: Site) -> None:
    """Adds the routes of the pages."""
    pages = _Pages(site)
    app.add_api_route("/", pages.overview, methods=_METHODS, response_model=None)
    app.add_api_route("/static/{name}", pages.static, methods=_METHODS, response_model=None)


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def overview(self, request: Request) -> Response:
        site = self._site
        config, now = site.config, site.now()
        overview, _ = await site.read(
            lambda conn: build_report(conn, config, target=None, since=timedelta(days=7), now=now)
        )
        return HTMLResponse(render("overview.html", site.frame(request, "Overview"), overview=overview))

    async def static(self, name: str) -> Response:
        file = plotly_script() if name == "plotly.min.js" else static_file(name)
        if file is None:
            raise HTTPException(404)
        headers = {"Content-Type": file.media_type, "ETag": file.etag, "Cache-Control": "no-cache"}
        return Response(file.content, headers=headers)
